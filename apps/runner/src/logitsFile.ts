/**
 * A safetensors file that is filled row by row: the header comes first, since all shapes are known, and every step's rows go to their places. Holds one step's
 * rows and no more. Written beside its final name and renamed when it is whole.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import type { ModelConfig } from "@shoal/checkpoint";
import { type TensorDeclaration, layoutSafetensors } from "@shoal/safetensors";
import { RunnerError } from "./errors.ts";
import type { LogitsRows } from "./gpu/protocol.ts";

export interface LogitsShape {
  readonly tokens: number;
  readonly hidden: boolean;
  readonly routing: boolean;
  readonly mtp: boolean;
}

export interface LogitsFile {
  readonly tensorCount: number;
  readonly byteLength: number;
  write(rows: LogitsRows): Promise<void>;
  finish(): Promise<void>;
  /** Removes what there is. */
  discard(): Promise<void>;
}

/** The tensors of a run, in the order of the file. */
export function logitsTensors(config: ModelConfig, { tokens, hidden, routing, mtp }: LogitsShape): readonly TensorDeclaration[] {
  const { nLayers, nDenseLayers, hiddenSize, vocabSize, nActivatedExperts } = config;
  const layers = Array.from({ length: nLayers }, (_, layer) => layer);
  const f32 = (name: string, shape: readonly number[]): TensorDeclaration => ({ name, dtype: "F32", shape });
  return [
    f32("logits", [tokens, vocabSize]),
    ...(mtp ? [f32("mtp_logits", [tokens - 1, vocabSize])] : []),
    ...(hidden ? layers.map((layer) => f32(`hidden.${layer}`, [tokens, hiddenSize])) : []),
    ...(routing
      ? layers
          .slice(nDenseLayers)
          .flatMap((layer): TensorDeclaration[] => [
            { name: `routing.${layer}.indices`, dtype: "I32", shape: [tokens, nActivatedExperts] },
            f32(`routing.${layer}.weights`, [tokens, nActivatedExperts]),
          ])
      : []),
  ];
}

export async function openLogitsFile(
  path: string,
  config: ModelConfig,
  shape: LogitsShape,
  metadata: Readonly<Record<string, string>>,
): Promise<LogitsFile> {
  const { header, entries, byteLength } = layoutSafetensors(logitsTensors(config, shape), { metadata, name: path });
  const offsets = new Map<string, number>();
  let offset = header.byteLength;
  for (const entry of entries) {
    offsets.set(entry.name, offset);
    offset += entry.byteLength;
  }
  const partial = `${path}.${randomUUID()}.partial`;
  const handle = await explained(path, () => open(partial, "wx"));
  const put = (name: string, row: number, data: Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>, columns: number): Promise<void> => {
    const begin = offsets.get(name);
    if (begin === undefined) throw new RunnerError(`Cannot write '${path}': tensor '${name}' was not expected`);
    return writeAt(handle, begin + row * columns * 4, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  };
  const { hiddenSize, vocabSize, nActivatedExperts } = config;
  return {
    tensorCount: entries.length,
    byteLength,
    async write({ start, logits, layerHidden, routing, mtpLogits }) {
      await explained(path, async () => {
        if (start === 0) await writeAt(handle, 0, header);
        await put("logits", start, logits, vocabSize);
        if (mtpLogits) await put("mtp_logits", start, mtpLogits, vocabSize);
        if (shape.hidden) for (const [layer, rows] of layerHidden.entries()) await put(`hidden.${layer}`, start, rows, hiddenSize);
        for (const { layer, indices, weights } of shape.routing ? routing : []) {
          await put(`routing.${layer}.indices`, start, indices, nActivatedExperts);
          await put(`routing.${layer}.weights`, start, weights, nActivatedExperts);
        }
      });
    },
    async finish() {
      await explained(path, async () => {
        await handle.truncate(byteLength);
        await handle.sync();
        await handle.close();
        await rename(partial, path);
      });
    },
    async discard() {
      await handle.close().catch(() => {});
      await rm(partial, { force: true });
    },
  };
}

async function writeAt(handle: FileHandle, position: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    done += (await handle.write(bytes, done, bytes.byteLength - done, position + done)).bytesWritten;
  }
}

async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Error) || !("code" in cause) || cause instanceof RunnerError) throw cause;
    throw new RunnerError(`Cannot write '${path}': it failed (${String(cause.code)}), expected a writable place`, { cause });
  }
}
