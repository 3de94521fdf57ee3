/** A sequence's KV rows as bytes, so that another stage of the same layers can go on where one stopped. */
import type { GpuContext } from "@shoal/gpu";
import type { KvCache, KvFormat } from "@shoal/kernels";
import { ModelError } from "./errors.ts";
import { KV_BLOCK_SIZE, type PagedKvCache, type SequenceSlot } from "./kvCache.ts";

export interface KvSnapshot {
  readonly format: KvFormat;
  /** Positions. */
  readonly tokens: number;
  /** Of a position in a layer. */
  readonly rowBytes: number;
  /** By layer, the MTP module's last where the stage has one: [tokens, rowBytes]. The kernels' kvRow.ts has the bytes' meaning. */
  readonly layers: readonly Uint8Array<ArrayBuffer>[];
}

/** Reads a sequence's rows, one layer after the other. The sequence must not grow, shrink or close meanwhile. */
export async function exportKv(gpu: GpuContext, kv: PagedKvCache, sequence: SequenceSlot): Promise<KvSnapshot> {
  const tokens = kv.length(sequence);
  const blocks = kv.blocks(sequence);
  const { format, rowBytes } = layout(kv);
  const blockBytes = KV_BLOCK_SIZE * rowBytes;
  const layers: Uint8Array<ArrayBuffer>[] = [];
  if (tokens === 0) return { format, tokens, rowBytes, layers: kv.layers.map(() => new Uint8Array()) };
  const staging = gpu.buffer({ label: "KV rows read", size: blocks.length * blockBytes, kind: "readback" });
  try {
    for (const { buffer } of kv.layers) {
      gpu.submit(
        blocks.map((block, index) => ({
          copy: { from: buffer, fromOffset: block * blockBytes, to: staging, toOffset: index * blockBytes, size: blockBytes },
        })),
      );
      layers.push(await gpu.mapped(staging, (range) => new Uint8Array(range.slice(0, tokens * rowBytes))));
    }
  } finally {
    gpu.destroyBuffer(staging);
  }
  return { format, tokens, rowBytes, layers };
}

/**
 * Opens a sequence with the rows of a snapshot.
 * @throws ModelError named bad-batch for a snapshot of another model or format, context-exceeded, out-of-kv-blocks or too-many-sequences; nothing has changed then.
 */
export function importKv(gpu: GpuContext, kv: PagedKvCache, snapshot: KvSnapshot): SequenceSlot {
  checkSnapshot(kv, snapshot);
  const { tokens, layers } = snapshot;
  const blockBytes = KV_BLOCK_SIZE * layout(kv).rowBytes;
  const sequence = kv.open();
  try {
    kv.extend([{ sequence, tokens }]);
  } catch (error) {
    kv.close(sequence);
    throw error;
  }
  const blocks = kv.blocks(sequence);
  for (const [layer, { buffer }] of kv.layers.entries())
    for (const [index, block] of blocks.entries()) {
      const rows = layers[layer]?.subarray(index * blockBytes, (index + 1) * blockBytes);
      if (rows) gpu.write(buffer, block * blockBytes, rows);
    }
  return sequence;
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
