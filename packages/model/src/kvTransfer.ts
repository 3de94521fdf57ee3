/** A sequence's KV rows as bytes, all or some of them, so that another stage of the same layers can go on where one stopped. */
import type { Command, GpuContext } from "@shoal/gpu";
import type { KvCache, KvFormat } from "@shoal/kernels";
import { ModelError } from "./errors.ts";
import { KV_BLOCK_SIZE, type PagedKvCache, type SequenceSlot } from "./kvCache.ts";

/** Read at once, of as many layers as that allows; one of them in any case. */
const STAGING_BYTES = 16 * 2 ** 20;

export interface KvSnapshot {
  readonly format: KvFormat;
  /** Positions. */
  readonly tokens: number;
  /** Of a position in a layer. */
  readonly rowBytes: number;
  /** By layer, the MTP module's last where the stage has one: [tokens, rowBytes]. The kernels' kvRow.ts has the bytes' meaning. */
  readonly layers: readonly Uint8Array<ArrayBuffer>[];
}

/** Positions `first .. first + count` of a sequence. */
export interface KvRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Reads rows of a sequence, all unless a range is given. The sequence must not grow, shrink or close meanwhile.
 * @throws ModelError named bad-batch for positions that it does not have
 */
export async function exportKv(gpu: GpuContext, kv: PagedKvCache, sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
  const length = kv.length(sequence);
  const { first, count } = range ?? { first: 0, count: length };
  if (![first, count].every((value) => Number.isSafeInteger(value) && value >= 0) || first + count > length)
    throw new ModelError("bad-batch", `Cannot export KV rows ${first} to ${first + count}: the sequence has ${length}`);
  const { format, rowBytes } = layout(kv);
  if (count === 0) return { format, tokens: 0, rowBytes, layers: kv.layers.map(() => new Uint8Array()) };
  const bytes = count * rowBytes;
  const parts = placesOf(kv.blocks(sequence), first, count);
  const layers: Uint8Array<ArrayBuffer>[] = [];
  const atOnce = Math.min(kv.layers.length, Math.max(1, Math.floor(STAGING_BYTES / bytes)));
  const staging = gpu.buffer({ label: "KV rows read", size: atOnce * bytes, kind: "readback" });
  try {
    for (let begin = 0; begin < kv.layers.length; begin += atOnce) {
      const some = kv.layers.slice(begin, begin + atOnce);
      gpu.submit(
        some.flatMap(({ buffer }, layer) =>
          parts.map(({ row, at, rows }): Command => {
            const [fromOffset, toOffset] = [row * rowBytes, layer * bytes + at * rowBytes];
            return { copy: { from: buffer, fromOffset, to: staging, toOffset, size: rows * rowBytes } };
          }),
        ),
      );
      layers.push(
        ...(await gpu.mapped(staging, (mapped) =>
          some.map((_, layer) => new Uint8Array(mapped.slice(layer * bytes, (layer + 1) * bytes))),
        )),
      );
    }
  } finally {
    gpu.destroyBuffer(staging);
  }
  return { format, tokens: count, rowBytes, layers };
}

/**
 * Opens a sequence with the rows of a snapshot, or adds them to one that is open.
 * @throws ModelError named bad-batch for a snapshot of another model or format, context-exceeded, out-of-kv-blocks or too-many-sequences; nothing has changed then.
 */
export function importKv(gpu: GpuContext, kv: PagedKvCache, snapshot: KvSnapshot, onto?: SequenceSlot): SequenceSlot {
  checkSnapshot(kv, snapshot);
  const { tokens, layers } = snapshot;
  const { rowBytes } = layout(kv);
  const sequence = onto ?? kv.open();
  const first = kv.length(sequence);
  try {
    kv.extend([{ sequence, tokens }]);
  } catch (error) {
    if (onto === undefined) kv.close(sequence);
    throw error;
  }
  const parts = placesOf(kv.blocks(sequence), first, tokens);
  for (const [layer, { buffer }] of kv.layers.entries())
    for (const { row, at, rows } of parts) {
      const some = layers[layer]?.subarray(at * rowBytes, (at + rows) * rowBytes);
      if (some) gpu.write(buffer, row * rowBytes, some);
    }
  return sequence;
}

/** Where positions lie: runs of rows of the cache, from `row` on, for those from `first + at` on. */
function placesOf(
  blocks: readonly number[],
  first: number,
  count: number,
): readonly { readonly row: number; readonly at: number; readonly rows: number }[] {
  const places: { row: number; at: number; rows: number }[] = [];
  for (let at = 0; at < count;) {
    const within = (first + at) % KV_BLOCK_SIZE;
    const rows = Math.min(count - at, KV_BLOCK_SIZE - within);
    places.push({ row: (blocks[Math.floor((first + at) / KV_BLOCK_SIZE)] ?? 0) * KV_BLOCK_SIZE + within, at, rows });
    at += rows;
  }
  return places;
}

function checkSnapshot(kv: PagedKvCache, snapshot: KvSnapshot): void {
  const { format, rowBytes } = layout(kv);
  const refuse = (field: string, actual: unknown, expected: unknown): never => {
    throw new ModelError("bad-batch", `Cannot import a KV snapshot: ${field} is ${String(actual)}, expected ${String(expected)}`);
  };
  const { tokens, layers } = snapshot;
  if (!Number.isSafeInteger(tokens) || tokens < 0 || tokens > kv.contextTokens) refuse("tokens", tokens, `0 to ${kv.contextTokens}`);
  if (snapshot.format !== format) refuse("format", snapshot.format, format);
  if (snapshot.rowBytes !== rowBytes) refuse("rowBytes", snapshot.rowBytes, rowBytes);
  if (layers.length !== kv.layers.length) refuse("the number of layers", layers.length, kv.layers.length);
  const bytes = tokens * rowBytes;
  for (const [layer, rows] of layers.entries())
    if (rows.byteLength !== bytes) refuse(`the bytes of layer ${layer}`, rows.byteLength, bytes);
}

function layout(kv: PagedKvCache): Pick<KvCache, "format" | "rowBytes"> {
  const [first] = kv.layers;
  if (!first) throw new ModelError("unsupported", "Cannot move KV rows: this stage has no layers");
  return first;
}
