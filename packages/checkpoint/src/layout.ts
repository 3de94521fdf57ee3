/**
 * Finds the tensors among a checkpoint's files: one `model.safetensors`, shards under `model.safetensors.index.json`, or the demo's
 * `model0-mp1.safetensors`, whose tensors appear here under Hugging Face's names.
 */
import { bytesSource, openIndexed, openSafetensors, SafetensorsError, type ByteSource, type TensorStore } from "@shoal/safetensors";

import { toDemoName, toHfName } from "./demo-names.ts";
import { CheckpointError } from "./error.ts";
import type { CheckpointFiles } from "./files.ts";

export type CheckpointLayout = "single" | "indexed" | "demo";

export interface FoundTensors {
  readonly layout: CheckpointLayout;
  readonly store: TensorStore;
  readonly warnings: readonly string[];
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const DEMO = "model0-mp1.safetensors";
/** Bytes of an index. DeepSeek-V3's, with 91,991 tensors, has 9 MB. */
const MAX_INDEX_BYTES = 100_000_000;

/** @throws {CheckpointError} `layout` where no layout is found; {SafetensorsError} where a file is bad */
export async function findTensors(files: CheckpointFiles, signal?: AbortSignal): Promise<FoundTensors> {
  const options = signal === undefined ? {} : { signal };
  const single = await files.open(SINGLE, signal);
  if (single !== null) return { layout: "single", store: await openSafetensors(single, options), warnings: [] };
  const index = await files.read(INDEX, MAX_INDEX_BYTES, signal);
  if (index !== null) return await openShards(files, index, signal);
  const demo = await files.open(DEMO, signal);
  if (demo !== null) return { layout: "demo", store: await renameToHf(await openSafetensors(demo, options)), warnings: [] };
  throw await noLayout(files, signal);
}

async function openShards(files: CheckpointFiles, index: Uint8Array, signal: AbortSignal | undefined): Promise<FoundTensors> {
  const openShard = async (shard: string, signal?: AbortSignal): Promise<ByteSource> => {
    const source = await files.open(shard, signal);
    if (source !== null) return source;
    throw new SafetensorsError("read", { code: "not-found", file: shard, actual: "does not exist", expected: `it in '${files.location}'` });
  };
  const store = await openIndexed(bytesSource(index, INDEX), openShard, signal === undefined ? {} : { signal });
  const warnings: string[] = [];
  const [first] = store.unindexed;
  if (first !== undefined)
    warnings.push(`${store.unindexed.length} tensors lie in a shard but not in the index, '${first.name}' the first`);
  return { layout: "indexed", store, warnings };
}

async function noLayout(files: CheckpointFiles, signal: AbortSignal | undefined): Promise<CheckpointError> {
  const names = (await files.list(signal)) ?? [];
  const split = names.find((name) => /^model\d+-mp\d+\.safetensors$/.test(name));
  if (split !== undefined) {
    const expected = `'${DEMO}': convert with --model-parallel 1, or give the original checkpoint`;
    return new CheckpointError("layout", files.location, `'${split}'`, "is split over several processes", expected);
  }
  const expected = `'${SINGLE}', '${INDEX}' or '${DEMO}'`;
  return new CheckpointError("missing-file", files.location, "the weights", "are missing", expected);
}

async function renameToHf(store: TensorStore): Promise<TensorStore> {
  const renamed = new Map([...store.tensors.values()].map((tensor) => [toHfName(tensor.name), tensor.name]));
  if (renamed.size !== store.tensors.size) {
    await store.close();
    throw new CheckpointError("layout", store.name, "two tensors", "have the same Hugging Face name", "a file that convert.py wrote");
  }
  const original = (name: string) => renamed.get(name) ?? toDemoName(name);
  return {
    name: store.name,
    tensors: new Map([...store.tensors.values()].map((tensor) => [toHfName(tensor.name), { ...tensor, name: toHfName(tensor.name) }])),
    readTensor: (name, signal) => store.readTensor(original(name), signal),
    readSlices: (name, options, signal) => store.readSlices(original(name), options, signal),
    readPart: (name, part, signal) => store.readPart(original(name), part, signal),
    close: () => store.close(),
  };
}
