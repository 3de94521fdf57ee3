/** Small checkpoints that are wrong in one way each, made from the fixture with ragged dimensions, or sparse ones that are too large. */
import { cp, open, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseConfigText, tensorSchema } from "@shoal/checkpoint";
import { layoutSafetensors } from "@shoal/safetensors";

const fixture = fileURLToPath(new URL("../../../packages/model/test/fixtures/ragged-v3-fp8", import.meta.url));
const INDEX = "model.safetensors.index.json";

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

type Json = Record<string, unknown>;

export class Checkpoint {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async copyTo(directory: string): Promise<Checkpoint> {
    await cp(fixture, directory, { recursive: true });
    return new Checkpoint(directory);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** The last of the shards. */
  async shard(): Promise<string> {
    const shards = (await readdir(this.directory)).filter((name) => name.endsWith(".safetensors")).sort();
    return this.path(shards.at(-1) ?? "");
  }

  async shardOf(tensor: string): Promise<string> {
    const { weight_map: map } = JSON.parse(await readFile(this.path(INDEX), "utf8")) as { weight_map: Record<string, string> };
    const file = map[tensor];
    if (file === undefined) throw new Error(`no tensor '${tensor}' in the fixture`);
    return this.path(file);
  }

  async editConfig(edit: (config: Json) => void): Promise<void> {
    const config = JSON.parse(await readFile(this.path("config.json"), "utf8")) as Json;
    edit(config);
    await writeFile(this.path("config.json"), JSON.stringify(config));
  }

  /** Rewrites a shard's header; the data stays as it is. */
  async editHeader(shard: string, edit: (header: Record<string, HeaderEntry>) => void): Promise<void> {
    const { header, data } = split(await readFile(shard));
    const entries = JSON.parse(new TextDecoder().decode(header)) as Record<string, HeaderEntry>;
    edit(entries);
    await writeFile(shard, join2(new TextEncoder().encode(JSON.stringify(entries)), data));
  }

  async editTensor(tensor: string, edit: (bytes: Uint8Array) => void): Promise<void> {
    const shard = await this.shardOf(tensor);
    const bytes = new Uint8Array(await readFile(shard));
    const { header, data } = split(bytes);
    const entry = (JSON.parse(new TextDecoder().decode(header)) as Record<string, HeaderEntry>)[tensor];
    if (!entry) throw new Error(`no tensor '${tensor}' in '${shard}'`);
    edit(data.subarray(...entry.data_offsets));
    await writeFile(shard, bytes);
  }

  /** Takes a tensor's name out of the index and gives it another in its shard: it is there no more. */
  async hide(tensor: string): Promise<void> {
    const other = `${tensor}.hidden`;
    await this.editHeader(await this.shardOf(tensor), (header) => {
      const entry = header[tensor];
      if (!entry) throw new Error(`no tensor '${tensor}'`);
      header[other] = entry;
      Reflect.deleteProperty(header, tensor);
    });
    const index = JSON.parse(await readFile(this.path(INDEX), "utf8")) as { weight_map: Record<string, string> };
    const file = index.weight_map[tensor];
    Reflect.deleteProperty(index.weight_map, tensor);
    if (file !== undefined) index.weight_map[other] = file;
    await writeFile(this.path(INDEX), JSON.stringify(index));
  }

  remove(path: string): Promise<void> {
    return rm(path);
  }

  async cut(path: string, bytes: number): Promise<void> {
    await truncate(path, (await readFile(path)).byteLength - bytes);
  }

  /** Sets the 8 bytes before the header. */
  async setHeaderLength(path: string, length: bigint): Promise<void> {
    const bytes = await readFile(path);
    bytes.writeBigUInt64LE(length, 0);
    await writeFile(path, bytes);
  }

  async setHeaderText(path: string, text: string): Promise<void> {
    const { data } = split(await readFile(path));
    await writeFile(path, join2(new TextEncoder().encode(text), data));
  }
}

function split(bytes: Uint8Array): { readonly header: Uint8Array; readonly data: Uint8Array } {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return { header: bytes.subarray(8, 8 + length), data: bytes.subarray(8 + length) };
}

function join2(header: Uint8Array, data: Uint8Array): Uint8Array {
  const padded = Math.ceil(header.byteLength / 8) * 8;
  const bytes = new Uint8Array(8 + padded + data.byteLength).fill(0x20, 8, 8 + padded);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(header, 8);
  bytes.set(data, 8 + padded);
  return bytes;
}

/** One dense layer and one with two experts of 8 GiB each: right headers over a file of holes. */
export async function writeHugeCheckpoint(directory: string): Promise<void> {
  const config = JSON.parse(await readFile(join(fixture, "config.json"), "utf8")) as Json;
  Object.assign(config, {
    hidden_size: 65_536,
    moe_intermediate_size: 65_536,
    num_hidden_layers: 2,
    first_k_dense_replace: 1,
    n_routed_experts: 2,
    num_experts_per_tok: 1,
    n_group: 1,
    topk_group: 1,
    num_nextn_predict_layers: 0,
  });
  const text = JSON.stringify(config);
  await writeFile(join(directory, "config.json"), text);
  const declared = tensorSchema(parseConfigText(text, "config.json")).flatMap(({ name, shape, kind, scaleName, scaleShape }) => [
    { name, shape, dtype: kind === "fp8Block" ? ("F8_E4M3" as const) : ("BF16" as const) },
    ...(kind === "fp8Block" && scaleName !== undefined ? [{ name: scaleName, shape: scaleShape ?? [], dtype: "F32" as const }] : []),
  ]);
  const { header, byteLength } = layoutSafetensors(declared);
  const file = await open(join(directory, "model.safetensors"), "w");
  try {
    await file.write(header);
    await file.truncate(byteLength);
  } finally {
    await file.close();
  }
}
