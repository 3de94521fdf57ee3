/**
 * Opens a checkpoint: finds its config and its tensors, reads the small files, checks nothing yet of what the tensors should be
 * (`validateCheckpoint()` does). Memory: headers and small files only, whatever the size of the weights.
 */
import type { HttpOptions, TensorStore } from "@shoal/safetensors";

import type { ModelConfig } from "./config.ts";
import { CheckpointError } from "./error.ts";
import { Fields } from "./fields.ts";
import { hubBaseUrl, httpFiles, isHubId, pickedFiles, type CheckpointFiles, type HubOptions } from "./files.ts";
import { findTensors, type CheckpointLayout } from "./layout.ts";
import { parseConfigText } from "./parse-config.ts";

/** An http(s) base URL or a hub's `org/name`; picked files; or anything that serves files by name, as `openDirectory()` does. */
export type CheckpointLocation = string | URL | Iterable<File> | CheckpointFiles;

export interface OpenOptions {
  /** Instead of the checkpoint's own config: the demo's layout has none. */
  readonly config?: ModelConfig;
  readonly http?: HttpOptions;
  readonly hub?: HubOptions;
  readonly signal?: AbortSignal;
}

/** What `generation_config.json` says about sampling; each null where it does not. */
export interface GenerationConfig {
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly topK: number | null;
  readonly doSample: boolean | null;
}

export interface CheckpointSource {
  readonly location: string;
  readonly layout: CheckpointLayout;
  /** With the end tokens of `generation_config.json` added, and with the MTP layers that the files really hold. */
  readonly config: ModelConfig;
  readonly generationConfig: GenerationConfig | null;
  /** The texts as they are; null where there is no such file. */
  readonly tokenizerJson: string | null;
  readonly tokenizerConfigJson: string | null;
  readonly chatTemplate: string | null;
  /** Under Hugging Face's names. */
  readonly tensors: TensorStore;
  readonly warnings: readonly string[];
  close(): Promise<void>;
}

/** Bytes. The largest published tokenizer.json has 20 million. */
const MAX_TOKENIZER_BYTES = 64 * 2 ** 20;
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
const EOS_RANGE = { min: 0, max: 2 ** 24 - 1 };

/** @throws {CheckpointError} {ConfigError} {SafetensorsError} */
export async function openCheckpoint(location: CheckpointLocation, options: OpenOptions = {}): Promise<CheckpointSource> {
  const { signal } = options;
  const files = filesAt(location, options);
  const text = (name: string, maxBytes: number) => readText(files, name, maxBytes, signal);
  const configText = options.config === undefined ? await text("config.json", MAX_CONFIG_BYTES) : null;
  if (options.config === undefined && configText === null) {
    throw new CheckpointError(
      "missing-file",
      files.location,
      "'config.json'",
      "is missing",
      "it beside the weights, or a config of your own",
    );
  }
  const declared = options.config ?? parseConfigText(configText ?? "", "config.json");
  const generation = parseGeneration(await text("generation_config.json", MAX_CONFIG_BYTES));
  const tokenizerJson = await text("tokenizer.json", MAX_TOKENIZER_BYTES);
  const tokenizerConfigJson = await text("tokenizer_config.json", MAX_CONFIG_BYTES);
  const chatTemplate = await text("chat_template.jinja", MAX_CONFIG_BYTES);
  // Last, because these stay open.
  const { layout, store, warnings } = await findTensors(files, signal);
  const mtp = countMtpLayers(declared, store);
  const mtpWarning = `the config has ${declared.nMtpLayers} MTP layers and the files have ${mtp}: ${mtp} will be used`;
  return Object.freeze({
    location: files.location,
    layout,
    config: withEos({ ...declared, nMtpLayers: mtp }, generation?.eosTokenIds ?? []),
    generationConfig: generation?.config ?? null,
    tokenizerJson,
    tokenizerConfigJson,
    chatTemplate,
    tensors: store,
    warnings: mtp < declared.nMtpLayers ? [...warnings, mtpWarning] : warnings,
    close: () => store.close(),
  });
}

function filesAt(location: CheckpointLocation, options: OpenOptions): CheckpointFiles {
  if (typeof location === "string" || location instanceof URL) {
    const text = String(location);
    if (/^https?:\/\//i.test(text) && URL.canParse(text)) return httpFiles(text, options.http);
    if (isHubId(text)) return httpFiles(hubBaseUrl(text, options.hub), options.http);
    throw new CheckpointError("location", text, "the location", "is neither", "an http(s) address or 'organization/name'");
  }
  return "open" in location ? location : pickedFiles(location);
}

async function readText(files: CheckpointFiles, name: string, maxBytes: number, signal: AbortSignal | undefined): Promise<string | null> {
  const bytes = await files.read(name, maxBytes, signal);
  if (bytes === null) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError("unreadable", files.location, `'${name}'`, "is not UTF-8", "UTF-8 text", cause);
  }
}

function parseGeneration(text: string | null): { readonly config: GenerationConfig; readonly eosTokenIds: readonly number[] } | null {
  if (text === null) return null;
  const file = "generation_config.json";
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError("unreadable", file, "it", "is not JSON", "a JSON object", cause);
  }
  const fields = new Fields(json, file);
  const config = Object.freeze({
    temperature: fields.get("temperature") === null ? null : fields.float("temperature", { min: 0, max: 100, inclusive: true }),
    topP: fields.get("top_p") === null ? null : fields.float("top_p", { min: 0, max: 1, inclusive: true }),
    topK: fields.get("top_k") === null ? null : fields.int("top_k", { min: 0, max: 2 ** 24 }),
    doSample: fields.get("do_sample") === null ? null : fields.bool("do_sample"),
  });
  return { config, eosTokenIds: fields.ints("eos_token_id", EOS_RANGE) };
}

function withEos(config: ModelConfig, more: readonly number[]): ModelConfig {
  const ids = new Set([...config.eosTokenIds, ...more.filter((id) => id < config.vocabSize)]);
  return Object.freeze({ ...config, eosTokenIds: Object.freeze([...ids]) });
}

/** Some copies of a model drop the MTP layers and keep the config, and the demo's config never mentions them: the files decide. */
function countMtpLayers(config: ModelConfig, store: TensorStore): number {
  let count = 0;
  while (store.tensors.has(`model.layers.${config.nLayers + count}.eh_proj.weight`)) count++;
  if (count > 0) return count;
  const prefix = `model.layers.${config.nLayers}.`;
  // A part of a layer is an incomplete checkpoint, which validateCheckpoint() then names.
  const partial = [...store.tensors.keys()].some((name) => name.startsWith(prefix));
  return partial ? config.nMtpLayers : 0;
}
