/** The model that the options name: its config and headers checked, its tokenizer ready. Reads no weights. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type CheckpointSource, ConfigError, type ModelConfig, parseConfigText, validateCheckpoint } from "@shoal/checkpoint";
import { openLocation } from "@shoal/checkpoint/directory";
import { tinyModelUrl } from "@shoal/tiny-model";
import { type ChatTemplate, type Tokenizer, loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";
import { RunnerError, UsageError } from "../errors.ts";
import type { Values } from "../options.ts";

export interface OpenModel {
  /** As messages show it. */
  readonly name: string;
  /** As `openLocation` takes it. */
  readonly location: string;
  readonly configOverride: ModelConfig | undefined;
  readonly checkpoint: CheckpointSource;
  readonly warnings: readonly string[];
}

const MAX_CONFIG_BYTES = 4 * 2 ** 20;

/** @throws UsageError, CheckpointError, ConfigError, SafetensorsError */
export async function openModel(values: Values, signal?: AbortSignal, word?: string): Promise<OpenModel> {
  const named = [values.model, values["ckpt-path"], word].filter((one) => one !== undefined);
  const [first, ...others] = new Set(named);
  if (others.length > 0) throw new UsageError(`Cannot use two models, '${first}' and '${others[0]}', expected one`);
  const embedded = first === undefined;
  const location = first ?? fileURLToPath(tinyModelUrl);
  const configOverride = values.config === undefined ? undefined : await readConfig(values.config);
  const checkpoint = await openLocation(location, { ...(configOverride && { config: configOverride }), ...(signal && { signal }) });
  try {
    const { warnings } = validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors, checkpoint.location);
    const name = embedded ? "the embedded tiny model" : shortName(location);
    return { name, location, configOverride, checkpoint, warnings: [...checkpoint.warnings, ...warnings] };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** @throws RunnerError where the checkpoint has none, TokenizerError */
export function tokenizerOf({ checkpoint }: OpenModel): Tokenizer {
  const { tokenizerJson, tokenizerConfigJson, location } = checkpoint;
  if (tokenizerJson === null)
    throw new RunnerError(`Cannot read text with '${location}': it has no 'tokenizer.json', expected it beside the weights`);
  return loadTokenizer({ tokenizerJson, tokenizerConfigJson: tokenizerConfigJson ?? undefined });
}

export function templateOf({ checkpoint }: OpenModel, tokenizer: Tokenizer): ChatTemplate {
  return loadChatTemplate(tokenizer, { source: checkpoint.chatTemplate ?? undefined });
}

/** @throws RunnerError, ConfigError */
export async function readConfig(path: string): Promise<ModelConfig> {
  return parseConfigText(await readText(path, "a config file"), path);
}

/** @throws RunnerError */
export async function readJson(path: string, what: string): Promise<unknown> {
  const text = await readText(path, what);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RunnerError(`Cannot read '${path}': it is no JSON, expected ${what}`, { cause });
  }
}

async function readText(path: string, what: string): Promise<string> {
  try {
    const bytes = await readFile(path);
    if (bytes.byteLength > MAX_CONFIG_BYTES)
      throw new ConfigError(path, "", `has ${bytes.byteLength} bytes`, `at most ${MAX_CONFIG_BYTES}`);
    return bytes.toString("utf8");
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new RunnerError(`Cannot read '${path}': ${code === "ENOENT" ? "it does not exist" : `it failed (${code})`}, expected ${what}`, {
      cause,
    });
  }
}

function shortName(location: string): string {
  return location
    .replace(/[/\\]+$/, "")
    .split(/[/\\]/)
    .slice(-2)
    .join("/");
}
