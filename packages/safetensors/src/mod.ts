export { DTYPE_BYTES, dtypeBytes, isDtype, tensorBytes, type Dtype } from "./dtype.ts";
export { SafetensorsError, type SafetensorsErrorCode, type SafetensorsErrorDetails } from "./error.ts";
export { LENGTH_BYTES, MAX_HEADER_BYTES, parseHeader, parseHeaderLength, type Header } from "./header.ts";
export { httpBytes, httpSource, type HttpOptions } from "./http.ts";
export { openIndexed, parseIndex, type IndexedSafetensors, type TensorIndex } from "./indexed.ts";
export { openSafetensors } from "./reader.ts";
export { DEFAULT_SLICE_BYTES } from "./slices.ts";
export { blobSource, bytesSource, type ByteSource } from "./source.ts";
export type { SafetensorsFile, SliceOptions, TensorInfo, TensorPart, TensorStore } from "./tensors.ts";
export {
  layoutSafetensors,
  writeSafetensors,
  type ByteSink,
  type Layout,
  type TensorDeclaration,
  type WriteEntry,
  type WriteOptions,
} from "./writer.ts";
