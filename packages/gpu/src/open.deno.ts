/**
 * WebGPU in Deno: the built-in one (wgpu), or Dawn through npm `webgpu`, a Node-API addon. Dawn has subgroups and a readback of about 1 ms where the
 * built-in one waits at least 11; but it is a native addon, and where it does not load or finds no adapter the built-in one serves.
 */
import process from "node:process";
import { shaderSources } from "@shoal/shaders";
import type { GpuContext } from "./context.ts";
import { DawnWaits } from "./dawnWait.deno.ts";
import { NoAdapterError } from "./errors.ts";
import { type Implementation, LEAST_DEVICE, type OpenOptions, adapterOf, openDevice, wantsSubgroupMatrix } from "./open.ts";
import { earlyMap } from "./wgpuMap.deno.ts";

export type DenoEngine = "auto" | "wgpu" | "dawn";

export interface DenoOpenOptions extends OpenOptions {
  readonly webgpu?: DenoEngine;
  /** Part of the adapter's name, for example "llvmpipe": Dawn only. */
  readonly adapterName?: string;
}

/** Browsers round timestamps to 65 us, lest pages time each other; a process of its own has no such neighbour, and most kernels are shorter than that. */
const UNQUANTIZED_TIMESTAMPS = "disable-dawn-features=timestamp_quantization";

/**
 * Dawn's bounds checks are for pages, whose shaders nobody knows. These are our own, and their indices made from shapes that were checked before, or cut off by the shader.
 * A check in front of every load of a subgroup matrix keeps compilers from moving the loads: without, prefill on an H100 is 1.4 times as fast.
 */
const NO_BOUNDS_CHECKS = "disable_robustness";

/** Subgroup matrices are experimental, and f16 on NVIDIA's drivers is not trusted by Dawn: both are tested before they are used. */
const SUBGROUP_MATRIX_TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];

const HINT = "install a Vulkan driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers), then see 'shoal doctor'";

/** `default` opens every device as the least there may be, for tests; what a caller asks for explicitly stays. */
const LIMITS_VARIABLE = "SHOAL_LIMITS";

/**
 * `auto` takes Dawn on a GPU, for its readback, and the built-in engine on a software adapter, where a step takes longer than a readback of either engine and Dawn
 * only adds its warnings on stderr.
 * @throws NoAdapterError, AdapterLimitError; RangeError where SHOAL_LIMITS is neither 'default' nor 'highest'
 */
export async function openDenoGpu(asked: DenoOpenOptions = {}): Promise<GpuContext> {
  const options = withEnvironment(asked);
  const { webgpu = "auto", adapterName } = options;
  const sources = shaderSources();
  if (webgpu === "wgpu") return openDevice(builtIn(), sources, options);
  if (webgpu === "dawn" || adapterName !== undefined) return openDawn(sources, options);
  // Asked first because it is quiet: Dawn writes warnings to stderr when it only looks at an adapter.
  if (await isSoftware(builtIn, options)) return openDevice(builtIn(), sources, options);
  try {
    return await openDawn(sources, options);
  } catch (error) {
    if (!(error instanceof NoAdapterError)) throw error;
    return openDevice(builtIn(), sources, options);
  }
}

async function openDawn(sources: ReadonlyMap<string, string>, options: DenoOpenOptions): Promise<GpuContext> {
  const gpu = await openDevice(await dawn(options), sources, options);
  dawnWaits().serves(gpu.adapter);
  return gpu;
}

/** No adapter is called this: asking for it makes Dawn's addon say which there are. */
const NO_ADAPTER = "shoal: none of these";
const MAX_ADAPTERS = 64;

export interface NamedAdapters {
  readonly name: string;
  /** How many are called so; asked for by this name, Dawn opens the first. */
  readonly count: number;
}

/** Adapters as Dawn names them, which it can open by their names. Opens no device. @throws NoAdapterError where the addon does not load */
export async function dawnAdapters(): Promise<readonly NamedAdapters[]> {
  const { gpu } = await dawn({ adapterName: NO_ADAPTER });
  const refusal: unknown = await dawnWaits()
    .wait(gpu.requestAdapter())
    .catch((error: unknown) => error);
  return refusal instanceof Error ? adaptersIn(refusal.message) : [];
}

/** Why there is no adapter: of that name, where one was asked for. */
export function refusal(error: unknown, adapterName: string | undefined): string {
  const message = error instanceof Error ? error.message : String(error);
  const names = adaptersIn(message).map(({ name }) => name);
  if (adapterName === undefined || names.length === 0) return `${message}; ${HINT}`;
  return `none is called '${adapterName}', expected part of one of these names: ${names.map((name) => `'${name}'`).join(", ")}`;
}

/** " * backend: 'vulkan', name: 'llvmpipe (LLVM 15.0.6, 256 bits)'", a line each. */
export function adaptersIn(message: string): readonly NamedAdapters[] {
  /** By name, then by backend: one adapter may have several. */
  const counts = new Map<string, Map<string, number>>();
  for (const [, backend = "", name = ""] of message.matchAll(/^ \* backend: '([^']*)', name: '(.{1,200})'$/gm)) {
    const ofName = counts.get(name) ?? new Map<string, number>();
    counts.set(name, ofName.set(backend, (ofName.get(backend) ?? 0) + 1));
  }
  return [...counts].slice(0, MAX_ADAPTERS).map(([name, ofName]) => ({ name, count: Math.max(...ofName.values()) }));
}

function withEnvironment(options: DenoOpenOptions): DenoOpenOptions {
  const wish = process.env[LIMITS_VARIABLE] ?? "";
  if (wish === "" || wish === "highest") return options;
  if (wish !== "default") throw new RangeError(`Cannot use ${LIMITS_VARIABLE}='${wish}', expected 'default' or 'highest'`);
  return { ...LEAST_DEVICE, ...options };
}

async function isSoftware(open: () => Implementation, options: OpenOptions): Promise<boolean> {
  try {
    return (await adapterOf(open(), options)).isSoftware;
  } catch (error) {
    if (error instanceof NoAdapterError) return false;
    throw error;
  }
}

function builtIn(): Implementation {
  const { gpu } = navigator;
  if (gpu === undefined) throw new NoAdapterError("wgpu", "this runtime has no navigator.gpu");
  return { engine: "wgpu", gpu, subgroupsDirective: false, hint: HINT, map: earlyMap() };
}

/** Where a thread's waits are, once the addon is loaded in it. */
const WAITS = Symbol.for("shoal.dawn.waits");

/** They are the thread's, as `setImmediate` is: a second pacing would pace the first. */
function dawnWaits(): DawnWaits {
  const known: unknown = Reflect.get(globalThis, WAITS);
  if (known instanceof DawnWaits) return known;
  const waits = new DawnWaits();
  waits.pace();
  Reflect.set(globalThis, WAITS, waits);
  return waits;
}

async function loadDawn(): Promise<(options: string[]) => GPU> {
  dawnWaits();
  return (await import("webgpu")).create;
}

async function dawn(options: DenoOpenOptions): Promise<Implementation> {
  let create: (options: string[]) => GPU;
  try {
    create = await loadDawn();
  } catch (error) {
    throw new NoAdapterError(
      "dawn",
      `the addon 'webgpu' did not load (${error instanceof Error ? error.message : String(error)}); ${HINT}`,
    );
  }
  try {
    const gpu = create([
      UNQUANTIZED_TIMESTAMPS,
      `enable-dawn-features=${[NO_BOUNDS_CHECKS, ...(wantsSubgroupMatrix(options) ? SUBGROUP_MATRIX_TOGGLES : [])].join(",")}`,
      ...(options.adapterName === undefined ? [] : [`adapter=${options.adapterName}`]),
    ]);
    const explain = (error: unknown): string => refusal(error, options.adapterName);
    return { engine: "dawn", gpu, subgroupsDirective: true, hint: HINT, explain, owner: gpu, wait: dawnWaits().wait };
  } catch (error) {
    throw new NoAdapterError("dawn", `the addon did not start (${error instanceof Error ? error.message : String(error)}); ${HINT}`);
  }
}
