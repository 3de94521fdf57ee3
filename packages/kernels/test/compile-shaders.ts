/**
 * Compiles every shader variant that the contract suites ask for, on both engines in Deno: `deno run -A packages/kernels/test/compile-shaders.ts`. What these adapters lack, as
 * subgroup matrices, is checked on a device that has every feature and runs nothing.
 *
 * The cases run on real devices, as they are and with the limits and features that WebGPU promises everywhere, but nothing is submitted and reads give zeros. So a
 * case gets as far as its first comparison, and mismatches mean nothing here: cases make all their kernels before they compare.
 */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { contracts } from "@shoal/kernels/contracts";
import { openNullGpu } from "../../gpu/src/nullDevice.deno.ts";
import { shaderSources } from "../../../shaders/sources.ts";

interface Outcome {
  readonly variants: number;
  /** Paths of shaders that some variant was made of. */
  readonly shaders: ReadonlySet<string>;
  readonly failures: readonly string[];
}

function zeros(buffer: GPUBuffer, offset = 0, size: number = buffer.size - offset): Promise<ArrayBuffer> {
  return Promise.resolve(new ArrayBuffer(size));
}

/** Makes `gpu` compile as ever but run nothing. */
function withoutWork(gpu: GpuContext, onKernel: (path: string, made: Promise<unknown>) => void): void {
  const compile = gpu.kernel.bind(gpu);
  gpu.kernel = (path: string, constants: ShaderConstants, label?: string) => {
    const made = compile(path, constants, label);
    onKernel(path, made);
    return made;
  };
  gpu.submit = () => {};
  gpu.write = () => {};
  gpu.read = zeros;
}

async function compileAll(gpu: GpuContext, suites: readonly string[] = Object.keys(contracts)): Promise<Outcome> {
  const before = gpu.counts.pipelines;
  const shaders = new Set<string>();
  const failures = new Map<string, string>();
  const pending: Promise<void>[] = [];
  withoutWork(gpu, (path, made) => {
    shaders.add(path);
    const note = (error: unknown): void => {
      const text = error instanceof Error ? error.message : String(error);
      failures.set(text, text);
    };
    pending.push(made.then(() => {}, note));
  });
  for (const item of suites.flatMap((suite) => contracts[suite] ?? [])) {
    try {
      await item.run(gpu);
    } catch (error) {
      const name = error instanceof Error ? error.name : "";
      if (name !== "MismatchError" && name !== "ShaderError") failures.set(item.name, `${item.name}: ${String(error)}`);
    }
  }
  await Promise.all(pending);
  return { variants: gpu.counts.pipelines - before, shaders, failures: [...failures.values()] };
}

async function onEngine(webgpu: Exclude<DenoEngine, "auto">): Promise<Outcome> {
  let variants = 0;
  const shaders = new Set<string>();
  const failures: string[] = [];
  for (const options of [{}, { limits: "default", subgroups: false, f16: false }] as const) {
    const gpu = await openDenoGpu({ webgpu, ...options });
    try {
      const outcome = await compileAll(gpu);
      variants += outcome.variants;
      for (const path of outcome.shaders) shaders.add(path);
      failures.push(...outcome.failures.map((text) => `${webgpu}${"limits" in options ? ", default limits" : ""}: ${text}`));
    } finally {
      gpu.destroy();
    }
  }
  return { variants, shaders, failures };
}

/** Suites of what has variants by subgroup matrices, or for subgroups of 32 alone. */
const WIDE_SUITES = ["matmul", "expertsMany", "mlaAttention", "matrixRate", "attentionSublayer", "moeSublayer"];
/** What the null device says of workgroups that are whole subgroups of 32, but not of its own. */
const WIDE_SUBGROUPS = /multiple of the device maxSubgroupSize/;

async function withEveryFeature(): Promise<Outcome> {
  const gpu = await openNullGpu();
  try {
    const { failures, ...outcome } = await compileAll(gpu, WIDE_SUITES);
    return { ...outcome, failures: failures.filter((text) => !WIDE_SUBGROUPS.test(text)).map((text) => `with every feature: ${text}`) };
  } finally {
    gpu.destroy();
  }
}

const wgpu = await onEngine("wgpu");
const dawn = await onEngine("dawn");
const every = await withEveryFeature();
// Self-tests were compiled when the devices were opened.
const unused = [...shaderSources().keys()].filter(
  (path) => !/^(?:lib|selftest)\//.test(path) && !(wgpu.shaders.has(path) && dawn.shaders.has(path)),
);
const failures = [
  ...wgpu.failures,
  ...dawn.failures,
  ...every.failures,
  ...unused.map((path) => `${path}: no contract case makes it before its first comparison`),
];
for (const failure of failures) console.log(failure);
console.log(`${wgpu.variants} variants on wgpu, ${dawn.variants} on dawn, ${every.variants} checked with every feature`);
Deno.exit(failures.length > 0 || [wgpu, dawn, every].some(({ variants }) => variants === 0) ? 1 : 0);
