/** Either config format, told apart by its fields. */
import type { ModelConfig } from "./config.ts";
import { isDemoConfig, parseDemoConfig } from "./demo-config.ts";
import { ConfigError } from "./error.ts";
import { parseHfConfig } from "./hf-config.ts";

/** @throws {ConfigError} */
export function parseConfig(json: unknown, path = "config.json"): ModelConfig {
  return isDemoConfig(json) ? parseDemoConfig(json, path) : parseHfConfig(json, path);
}

/** @throws {ConfigError} */
export function parseConfigText(text: string, path = "config.json"): ModelConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(path, "", `is not JSON (${cause instanceof Error ? cause.message : String(cause)})`, "a JSON object");
  }
  return parseConfig(json, path);
}
