/** For the GPU tests of packages above: devices and stages by name, golden fixtures, checks. */
export type { DenoEngine } from "@shoal/gpu/deno";
export { logprobsReference } from "@shoal/kernels/testing";
export { check, report } from "./compare.ts";
export { logitsOf } from "./drive.ts";
export { FIXTURES, type Golden, readGolden } from "./golden.ts";
export { type GpuTest, Models } from "./models.ts";
export { WINDOW, heldOutProse, windowNll } from "./perplexity.ts";
