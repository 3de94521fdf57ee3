/** One safetensors file over any `ByteSource`: its header, read and checked once, and its tensors by name. */
import { quote, readError, type SafetensorsError } from "./error.ts";
import { LENGTH_BYTES, parseHeader, parseHeaderLength, tooShort } from "./header.ts";
import { DEFAULT_SLICE_BYTES, readRange } from "./slices.ts";
import type { ByteSource } from "./source.ts";
import type { SafetensorsFile, SliceOptions, TensorInfo, TensorPart } from "./tensors.ts";

/**
 * Reads and checks the header. The file takes the source over: closing the file closes it, and so does a failure here.
 * @throws {SafetensorsError}
 */
export async function openSafetensors(source: ByteSource, options: { readonly signal?: AbortSignal } = {}): Promise<SafetensorsFile> {
  const { signal } = options;
  try {
    if (source.size < LENGTH_BYTES) throw tooShort(source.name, source.size);
    const prefix = await source.read(0, LENGTH_BYTES, signal);
    const headerBytes = parseHeaderLength(prefix, source.size, source.name);
    const header = parseHeader(await source.read(LENGTH_BYTES, headerBytes, signal), source);
    return Object.freeze({
      name: source.name,
      ...header,
      readTensor: async (name: string, signal?: AbortSignal) => {
        const tensor = findTensor(header.tensors, name, source.name);
        return await source.read(tensor.begin, tensor.byteLength, signal);
      },
      readSlices: (name: string, options: SliceOptions = {}, signal?: AbortSignal) => {
        const tensor = findTensor(header.tensors, name, source.name);
        return readTensorSlices(source, tensor, options, signal);
      },
      readPart: async (name: string, { offset, length, into }: TensorPart, signal?: AbortSignal) => {
        const tensor = findTensor(header.tensors, name, source.name);
        checkPart(source, tensor, offset, length, "");
        return await source.read(tensor.begin + offset, length, signal, into);
      },
      close: () => source.close(),
    });
  } catch (error) {
    await source.close();
    throw error;
  }
}

function findTensor(tensors: ReadonlyMap<string, TensorInfo>, name: string, file: string): TensorInfo {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw unknownTensor(name, file, tensors.size);
  return tensor;
}

export function unknownTensor(name: string, file: string, count: number): SafetensorsError {
  return readError({ code: "unknown-tensor", file, actual: `has no tensor ${quote(name)}`, expected: `one of its ${count} tensors` });
}

function readTensorSlices(source: ByteSource, tensor: TensorInfo, options: SliceOptions, signal: AbortSignal | undefined) {
  const { sliceBytes = DEFAULT_SLICE_BYTES, offset = 0, length = tensor.byteLength - offset } = options;
  checkPart(source, tensor, offset, length, ` in slices of ${sliceBytes}`, isCount(sliceBytes) && sliceBytes > 0);
  return readRange(source, tensor.begin + offset, tensor.begin + offset + length, sliceBytes, signal);
}

function checkPart(source: ByteSource, tensor: TensorInfo, offset: number, length: number, how: string, ok = true): void {
  if (ok && isCount(offset) && isCount(length) && offset + length <= tensor.byteLength) return;
  const actual = `was asked for ${length} bytes at ${offset}${how}`;
  const expected = `a range within its ${tensor.byteLength} bytes${how && " and slices of at least 1"}`;
  throw readError({ code: "out-of-range", file: source.name, field: `tensor ${quote(tensor.name)}`, actual, expected });
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
