/**
 * Opens a device on any WebGPU implementation: the highest limits that the adapter has, features found by trying, decoders checked bit by bit.
 * Where the implementation comes from is `open.deno.ts`'s and `open.browser.ts`'s business.
 */
import { type AdapterDescription, GpuContext } from "./context.ts";
import type { Dialect, EngineName, SubgroupMatrixShape } from "./dialect.ts";
import { AdapterLimitError, NoAdapterError } from "./errors.ts";
import { passesF16SelfTest, passesFp8SelfTest, passesSubgroupMatrixSelfTest, probeSubgroups } from "./selftest.ts";

export interface OpenOptions {
  /** `default` clamps to what WebGPU promises everywhere (128 MiB bindings, 8 storage buffers, 256 invocations, 16 KiB of workgroup memory). */
  readonly limits?: "highest" | "default";
  /** Turn optional features off, to run what a lesser device would run. */
  readonly subgroups?: boolean;
  readonly f16?: boolean;
  /** Subgroup matrices, which take the other two. `precise`: products of many tokens do not round activations to f16 for them, as they do otherwise. */
  readonly subgroupMatrix?: boolean | "precise";
  readonly timestampQuery?: boolean;
  readonly powerPreference?: GPUPowerPreference;
  /** Names of kernel variants by operation, for any device or for the one that is opened; those not named are chosen by what the device offers. */
  readonly choices?:
    | ReadonlyMap<string, string>
    | ((opened: OpenedAdapter) => ReadonlyMap<string, string> | Promise<ReadonlyMap<string, string>>);
}

export interface OpenedAdapter {
  readonly adapter: AdapterDescription;
  readonly engine: EngineName;
}

/** A device with nothing but what WebGPU promises everywhere: the least that a phone or an old laptop may offer. */
export const LEAST_DEVICE = {
  limits: "default",
  subgroups: false,
  f16: false,
  subgroupMatrix: false,
  timestampQuery: false,
} as const satisfies OpenOptions;

export interface Implementation {
  readonly engine: EngineName;
  readonly gpu: GPU;
  /** Whether `enable subgroups;` is demanded, or refused (naga). */
  readonly subgroupsDirective: boolean;
  /** What to say when there is no adapter. */
  readonly hint: string;
  /** The same where asking for one fails with an error. */
  readonly explain?: (error: unknown) => string;
  readonly owner?: unknown;
  /** Awaits a promise of this implementation's, where that takes more than `await`. */
  readonly wait?: <T>(promise: Promise<T>) => Promise<T>;
  /** Maps a readback buffer, where that is not to await `mapAsync`. */
  readonly map?: ((staging: GPUBuffer) => Promise<void>) | undefined;
}

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
] as const;

const SUBGROUP_MATRIX_FEATURE = "chromium-experimental-subgroup-matrix";
/** What the shaders are written for. */
const SUBGROUP_MATRIX: SubgroupMatrixShape = { m: 16, n: 16, k: 16 };
const SUBGROUP_MATRIX_LANES = 32;

/** What `openDevice` would open. @throws NoAdapterError */
export async function adapterOf(implementation: Implementation, options: OpenOptions = {}): Promise<AdapterDescription> {
  return describeAdapter(await requestAdapter(implementation, options));
}

async function requestAdapter(
  { gpu, engine, hint, explain, wait = (promise) => promise }: Implementation,
  { powerPreference = "high-performance" }: OpenOptions,
): Promise<GPUAdapter> {
  let adapter: GPUAdapter | null;
  try {
    adapter = await wait(gpu.requestAdapter({ powerPreference }));
  } catch (error) {
    throw new NoAdapterError(engine, explain?.(error) ?? `${error instanceof Error ? error.message : String(error)}; ${hint}`);
  }
  if (!adapter) throw new NoAdapterError(engine, hint);
  return adapter;
}

/** @throws NoAdapterError, AdapterLimitError or DeviceLostError. */
export async function openDevice(
  implementation: Implementation,
  sources: ReadonlyMap<string, string>,
  options: OpenOptions = {},
): Promise<GpuContext> {
  const { gpu, engine, hint } = implementation;
  const wait = implementation.wait ?? (<T>(promise: Promise<T>) => promise);
  const adapter = await requestAdapter(implementation, options);
  const requiredLimits = options.limits === "default" ? {} : highestLimits(adapter);
  const attempt = async (requiredFeatures: string[]): Promise<GPUDevice | undefined> => {
    // An adapter is spent by one successful request, so every try asks for a fresh one.
    const fresh = await requestAdapter(implementation, options);
    try {
      return await wait(fresh.requestDevice({ requiredFeatures: requiredFeatures as GPUFeatureName[], requiredLimits }));
    } catch (error) {
      if (requiredFeatures.length === 0)
        throw new AdapterLimitError("open a device", "device creation", 1, 0, error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const wanted = [
    ...(options.timestampQuery === false ? [] : ["timestamp-query"]),
    ...(options.f16 === false ? [] : ["shader-f16"]),
    ...(options.subgroups === false ? [] : ["subgroups"]),
    ...(wantsSubgroupMatrix(options) && hasSubgroupMatrix(adapter) ? [SUBGROUP_MATRIX_FEATURE] : []),
  ];
  let granted: string[] = [];
  let device: GPUDevice | undefined = await attempt(wanted);
  if (device) granted = wanted;
  else {
    // Not all at once: find out which are refused. Deno has subgroups that its adapter does not list, so asking is the only way.
    for (const feature of wanted) {
      const probe = await attempt([...granted, feature]);
      if (probe) granted.push(feature);
      probe?.destroy();
    }
    device = await attempt(granted);
  }
  device ??= await attempt([]);
  if (!device) throw new NoAdapterError(engine, hint);
  const timestampQuery = granted.includes("timestamp-query");
  const subgroups = granted.includes("subgroups") ? (implementation.subgroupsDirective ? "directive" : "implicit") : "none";
  const description = describeAdapter(adapter);
  const choices = typeof options.choices === "function" ? await options.choices({ adapter: description, engine }) : options.choices;
  const context = (dialect: Dialect): GpuContext =>
    new GpuContext({
      device,
      adapter: description,
      dialect,
      sources,
      wait,
      map: implementation.map,
      ...(choices && { choices }),
      owner: [implementation.owner, gpu, adapter],
    });

  const base: Dialect = { engine, subgroups, subgroupSize: 0, f16: false, timestampQuery, fp8Decode: "unpack" };
  const probe = context(base);
  const fp8Decode = (await passesFp8SelfTest(probe, "unpack")) ? "unpack" : "select";
  if (fp8Decode === "select" && !(await passesFp8SelfTest(probe, "select")))
    throw new AdapterLimitError("use this adapter", "exact FP8 decoding", 256, 0, "both decoders failed the 256-code self-test");
  const size = subgroups === "none" ? undefined : await probeSubgroups(probe);
  const { subgroupMinSize: smallest = 0, subgroupMaxSize: largest = 0 } = adapter.info;
  const subgroupSize = size !== undefined && smallest === largest ? size : 0;
  // Where drivers are not trusted with f16, Dawn offers it only when asked to: it has to prove itself.
  const f16 = granted.includes("shader-f16") && (await passesF16SelfTest(context({ ...base, f16: true })));
  const matrices =
    f16 &&
    subgroupSize === SUBGROUP_MATRIX_LANES &&
    granted.includes(SUBGROUP_MATRIX_FEATURE) &&
    (await passesSubgroupMatrixSelfTest(probe, "hardware"));
  return context({
    ...base,
    fp8Decode,
    subgroups: size === undefined ? "none" : subgroups,
    subgroupSize,
    f16,
    ...(matrices && { subgroupMatrix: { ...SUBGROUP_MATRIX, precise: options.subgroupMatrix === "precise" } }),
  });
}

/** Whether subgroup matrices may be used at all. */
export function wantsSubgroupMatrix({ subgroupMatrix, f16, subgroups }: OpenOptions): boolean {
  return subgroupMatrix !== false && f16 !== false && subgroups !== false;
}

interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Whether the adapter lists f16 times f16 in f32, of the shape that the shaders are written for. */
function hasSubgroupMatrix({ features, info }: GPUAdapter): boolean {
  if (!(features as ReadonlySet<string>).has(SUBGROUP_MATRIX_FEATURE)) return false;
  const { subgroupMatrixConfigs = [] } = info as { readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  return [...subgroupMatrixConfigs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" &&
      resultComponentType === "f32" &&
      M === SUBGROUP_MATRIX.m &&
      N === SUBGROUP_MATRIX.n &&
      K === SUBGROUP_MATRIX.k,
  );
}

function highestLimits(adapter: GPUAdapter): Record<string, number> {
  const limits: Record<string, number> = {};
  for (const name of LIMITS) {
    limits[name] = adapter.limits[name];
  }
  return limits;
}

function describeAdapter(adapter: GPUAdapter): AdapterDescription {
  const { vendor, architecture, device, description } = adapter.info;
  const text = `${vendor} ${architecture} ${device} ${description}`;
  const isFallback = "isFallbackAdapter" in adapter.info && adapter.info.isFallbackAdapter;
  return {
    vendor,
    architecture,
    device,
    description,
    isSoftware: isFallback || namesSoftware(text),
  };
}

/** Whether an adapter that is called this runs on the CPU. */
export function namesSoftware(name: string): boolean {
  return /llvmpipe|lavapipe|swiftshader|software|basic render/i.test(name);
}
