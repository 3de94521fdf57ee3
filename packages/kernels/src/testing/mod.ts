export { MismatchError, type Tolerance, assertClose, assertEqual, assertNearest } from "./compare.ts";
export { type TestExperts, type TestExpertsOptions, randomExperts, randomRoutes } from "./experts.ts";
export { type ContractCase, padded, runAndRead, unpadded, withBuffers } from "./harness.ts";
export { type TestMatrix, type TestMatrixOptions, f16ToNumber, numberToF16, randomMatrix, storeWeight } from "./matrices.ts";
export { type Random, normals, seededRandom } from "./random.ts";
export { uploadBatch } from "./steps.ts";
export { type TestRow, type TestSequences, type TestSequencesOptions, cacheElements, testSequences } from "./sequences.ts";
