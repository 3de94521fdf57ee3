/**
 * A long range as a sequence of slices, one of them read ahead: while the caller works on a slice, the next is on its way. So at most two
 * slices of memory are in flight, however long the range.
 */
import type { ByteSource } from "./source.ts";

/** Bytes. Large enough that a disk or a connection runs at full speed, small enough that two of them are nothing. */
export const DEFAULT_SLICE_BYTES = 8 * 1024 * 1024;

export async function* readRange(
  source: ByteSource,
  begin: number,
  end: number,
  sliceBytes: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const readAt = (offset: number) => {
    const read = source.read(offset, Math.min(sliceBytes, end - offset), either);
    // A read ahead may fail while nobody waits for it; whoever awaits it later still sees the failure.
    read.catch(() => {});
    return read;
  };
  let next = begin < end ? readAt(begin) : null;
  try {
    for (let offset = begin; next !== null; offset += sliceBytes) {
      const bytes = await next;
      next = offset + sliceBytes < end ? readAt(offset + sliceBytes) : null;
      yield bytes;
      signal?.throwIfAborted();
    }
  } finally {
    stop.abort();
    await next?.catch(() => {});
  }
}
