/**
 * A checkpoint of several files: `model.safetensors.index.json` says in which shard each tensor lies. All shards' headers are read at
 * opening, a few at a time, so that whatever is missing is known before anything is loaded. Their data is read when asked for.
 */
import { quote, readError, SafetensorsError } from "./error.ts";
import { parseStrictJson, StrictJsonError } from "./json.ts";
import { openSafetensors, unknownTensor } from "./reader.ts";
import type { ByteSource } from "./source.ts";
import type { SafetensorsFile, SliceOptions, TensorInfo, TensorPart, TensorStore } from "./tensors.ts";

/** Bytes. DeepSeek-V3's, with 91,991 tensors, has 9 MB. */
export const MAX_INDEX_BYTES = 100_000_000;
/** Each holds a file handle open while the checkpoint is. The largest published checkpoints have a few hundred. */
export const MAX_SHARDS = 4096;
/** Shards whose headers are read at the same time. */
const OPENING_AT_ONCE = 8;
const MAX_NAME_LENGTH = 255;

export interface IndexedSafetensors extends TensorStore {
  readonly shards: ReadonlyMap<string, SafetensorsFile>;
  /** `metadata.total_size` as the index has it: published ones are not always right. */
  readonly totalSize: number | null;
  /** Tensors that lie in a shard but not in the index. Not readable here. */
  readonly unindexed: readonly { readonly name: string; readonly shard: string }[];
}

export interface TensorIndex {
  /** Tensor name -> shard name. */
  readonly weightMap: ReadonlyMap<string, string>;
  readonly totalSize: number | null;
}

/** @throws {SafetensorsError} `index`, `duplicate-name`, `shard-name` */
export function parseIndex(text: string, file = "model.safetensors.index.json"): TensorIndex {
  const fail = (field: string | undefined, actual: string, expected: string, cause?: unknown) =>
    readError({ code: "index", file, field, actual, expected, cause });
  let json: unknown;
  try {
    json = parseStrictJson(text);
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    if (cause.kind !== "duplicate") throw fail(undefined, `is not JSON (${cause.message})`, "a JSON object", cause);
    throw readError({ code: "duplicate-name", file, actual: `names ${quote(cause.message)} twice`, expected: "every name once", cause });
  }
  if (!isRecord(json)) throw fail(undefined, "is not an object", "a JSON object");
  const { weight_map: map, metadata } = json;
  if (!isRecord(map)) throw fail("weight_map", `is ${quote(map)}`, "an object of shard names");
  const weightMap = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (!isShardName(shard)) {
      const expected = "a plain file name, without directories";
      throw readError({ code: "shard-name", file, field: `weight_map[${quote(tensor)}]`, actual: `is ${quote(shard)}`, expected });
    }
    weightMap.set(tensor, shard);
  }
  if (weightMap.size === 0) throw fail("weight_map", "is empty", "at least one tensor");
  const shards = new Set(weightMap.values()).size;
  if (shards > MAX_SHARDS) throw fail("weight_map", `names ${shards} shards`, `at most ${MAX_SHARDS}`);
  const total = isRecord(metadata) ? metadata["total_size"] : undefined;
  return { weightMap, totalSize: typeof total === "number" && Number.isSafeInteger(total) && total >= 0 ? total : null };
}

/**
 * @param index the source of the index file; read and closed here
 * @param openShard opens one shard by its plain name; a `not-found` error becomes `missing-shard`
 * @throws {SafetensorsError}
 */
export async function openIndexed(
  index: ByteSource,
  openShard: (shard: string, signal?: AbortSignal) => Promise<ByteSource>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<IndexedSafetensors> {
  const { weightMap, totalSize } = parseIndex(await readText(index, options.signal), index.name);
  const wanted = new Map<string, string[]>();
  for (const [tensor, shard] of weightMap) {
    const tensors = wanted.get(shard);
    if (tensors === undefined) wanted.set(shard, [tensor]);
    else tensors.push(tensor);
  }
  const shards = await openShards(index.name, wanted, openShard, options.signal);
  try {
    return assemble(index.name, wanted, shards, totalSize);
  } catch (error) {
    await closeAll(shards.values());
    throw error;
  }
}

async function readText(index: ByteSource, signal: AbortSignal | undefined): Promise<string> {
  try {
    if (index.size > MAX_INDEX_BYTES) {
      throw readError({ code: "index", file: index.name, actual: `has ${index.size} bytes`, expected: `at most ${MAX_INDEX_BYTES}` });
    }
    const bytes = await index.read(0, index.size, signal);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch (cause) {
      throw readError({ code: "index", file: index.name, actual: "is not UTF-8", expected: "UTF-8 text", cause });
    }
  } finally {
    await index.close();
  }
}

/** Opens all, or closes those already open and throws. */
async function openShards(
  indexName: string,
  wanted: ReadonlyMap<string, readonly string[]>,
  openShard: (shard: string, signal?: AbortSignal) => Promise<ByteSource>,
  signal: AbortSignal | undefined,
): Promise<Map<string, SafetensorsFile>> {
  const opened = new Map<string, SafetensorsFile>();
  const queue = [...wanted];
  let failed = false;
  const work = async () => {
    for (let next = queue.shift(); next !== undefined && !failed; next = queue.shift()) {
      const [shard, tensors] = next;
      try {
        opened.set(shard, await openSafetensors(await openShard(shard, signal), signal === undefined ? {} : { signal }));
      } catch (error) {
        failed = true;
        throw missingShard(error, indexName, shard, tensors);
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: OPENING_AT_ONCE }, work));
  const failure = results.find((result) => result.status === "rejected");
  if (failure === undefined) return opened;
  await closeAll(opened.values());
  throw failure.reason;
}

function missingShard(error: unknown, indexName: string, shard: string, tensors: readonly string[]): unknown {
  if (!(error instanceof SafetensorsError) || error.code !== "not-found") return error;
  const more = tensors.length > 3 ? ` and ${tensors.length - 3} more` : "";
  const expected = `it beside the index, for ${tensors
    .slice(0, 3)
    .map((name) => quote(name))
    .join(", ")}${more}`;
  return readError({ code: "missing-shard", file: indexName, field: `shard '${shard}'`, actual: "is missing", expected, cause: error });
}

function assemble(
  name: string,
  wanted: ReadonlyMap<string, readonly string[]>,
  shards: ReadonlyMap<string, SafetensorsFile>,
  totalSize: number | null,
): IndexedSafetensors {
  const tensors = new Map<string, TensorInfo>();
  const holders = new Map<string, SafetensorsFile>();
  const unindexed: { name: string; shard: string }[] = [];
  for (const [shard, file] of shards) {
    const listed = new Set(wanted.get(shard));
    for (const tensor of listed) {
      const info = file.tensors.get(tensor);
      if (info === undefined) {
        const expected = `it in the shard that the index '${name}' names`;
        throw readError({ code: "missing-tensor", file: file.name, field: `tensor ${quote(tensor)}`, actual: "is missing", expected });
      }
      tensors.set(tensor, info);
      holders.set(tensor, file);
    }
    for (const tensor of file.tensors.keys()) if (!listed.has(tensor)) unindexed.push({ name: tensor, shard });
  }
  const holder = (tensor: string) => {
    const file = holders.get(tensor);
    if (file === undefined) throw unknownTensor(tensor, name, tensors.size);
    return file;
  };
  return Object.freeze({
    name,
    tensors,
    shards,
    totalSize,
    unindexed: Object.freeze(unindexed),
    readTensor: async (tensor: string, signal?: AbortSignal) => await holder(tensor).readTensor(tensor, signal),
    readSlices: (tensor: string, options?: SliceOptions, signal?: AbortSignal) => holder(tensor).readSlices(tensor, options, signal),
    readPart: async (tensor: string, part: TensorPart, signal?: AbortSignal) => await holder(tensor).readPart(tensor, part, signal),
    close: () => closeAll(shards.values()),
  });
}

async function closeAll(files: Iterable<TensorStore>): Promise<void> {
  await Promise.all([...files].map((file) => file.close()));
}

function isShardName(value: unknown): value is string {
  // A colon names a drive or a stream on Windows; control characters include NUL.
  // eslint-disable-next-line no-control-regex
  return typeof value === "string" && value.length <= MAX_NAME_LENGTH && /^[^/\\:\x00-\x1f]+$/.test(value) && !/^\.{1,2}$/.test(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
