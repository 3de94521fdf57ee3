export { MismatchError, type Tolerance, assertClose, assertEqual } from "./compare.ts";
export { type ContractCase, padded, runAndRead, unpadded, withBuffers } from "./harness.ts";
export { type TestMatrix, type TestMatrixOptions, f16ToNumber, randomMatrix } from "./matrices.ts";
export { type Random, normals, seededRandom } from "./random.ts";
export { uploadBatch } from "./steps.ts";
