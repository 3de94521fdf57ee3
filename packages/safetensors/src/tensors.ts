/**
 * What the readers of this package hand out, whether the tensors lie in one file or in many. Offsets are absolute byte offsets in `file`.
 */
import type { Dtype } from "./dtype.ts";

export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
  readonly byteLength: number;
  /** Name of the file that holds it. */
  readonly file: string;
}

export interface SliceOptions {
  /** Bytes a slice; the last one may be shorter. Default `DEFAULT_SLICE_BYTES`. */
  readonly sliceBytes?: number;
  /** Byte offset within the tensor. Default 0. */
  readonly offset?: number;
  /** Bytes to read from `offset` on. Default: the rest of the tensor. */
  readonly length?: number;
}

export interface TensorPart {
  /** Byte offset within the tensor. */
  readonly offset: number;
  readonly length: number;
  /** Memory for the part, at least as long: used where the source can, and free again when the promise settles and its bytes are done with. */
  readonly into?: Uint8Array<ArrayBuffer>;
}

export interface TensorStore {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The whole tensor in memory: for small ones. */
  readTensor(name: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /** The tensor in order, slice by slice, with at most one slice read ahead. Each slice is the caller's own. */
  readSlices(name: string, options?: SliceOptions, signal?: AbortSignal): AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** One part of the tensor. Several may be read at once. */
  readPart(name: string, part: TensorPart, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

export interface SafetensorsFile extends TensorStore {
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the tensors' bytes begin: 8 + header length. */
  readonly dataStart: number;
}
