/**
 * Opens a device on any WebGPU implementation: the highest limits that the adapter has, features found by trying, decoders checked bit by bit.
 * Where the implementation comes from is `open.deno.ts`'s and `open.browser.ts`'s business.
 */
import { type AdapterDescription, GpuContext } from "./context.ts";
import type { Dialect, EngineName } from "./dialect.ts";
import { AdapterLimitError, NoAdapterError } from "./errors.ts";
import { passesFp8SelfTest, probeSubgroups } from "./selftest.ts";

export interface OpenOptions {
  /** `default` clamps to what WebGPU promises everywhere (128 MiB bindings, 8 storage buffers, 256 invocations, 16 KiB of workgroup memory). */
  readonly limits?: "highest" | "default";
  /** Turn optional features off, to run what a lesser device would run. */
  readonly subgroups?: boolean;
  readonly f16?: boolean;
  readonly powerPreference?: GPUPowerPreference;
  /** Names of kernel variants by operation; those not named are chosen by what the device offers. */
  readonly choices?: ReadonlyMap<string, string>;
}

export interface Implementation {
  readonly engine: EngineName;
  readonly gpu: GPU;
  /** Whether `enable subgroups;` is demanded, or refused (naga). */
  readonly subgroupsDirective: boolean;
  /** What to say when there is no adapter. */
  readonly hint: string;
  readonly owner?: unknown;
  /** Awaits a promise of this implementation's, where that takes more than `await`. */
  readonly wait?: <T>(promise: Promise<T>) => Promise<T>;
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

/** What `openDevice` would open. @throws NoAdapterError */
export async function adapterOf(implementation: Implementation, options: OpenOptions = {}): Promise<AdapterDescription> {
  const { gpu, engine, hint, wait = (promise) => promise } = implementation;
  const adapter = await wait(gpu.requestAdapter({ powerPreference: options.powerPreference ?? "high-performance" }));
  if (!adapter) throw new NoAdapterError(engine, hint);
  return describeAdapter(adapter);
}

/** @throws NoAdapterError, AdapterLimitError or DeviceLostError. */
export async function openDevice(
  implementation: Implementation,
  sources: ReadonlyMap<string, string>,
  options: OpenOptions = {},
): Promise<GpuContext> {
  const { gpu, engine, hint } = implementation;
  const wait = implementation.wait ?? (<T>(promise: Promise<T>) => promise);
  const requestAdapter = (): Promise<GPUAdapter | null> =>
    wait(gpu.requestAdapter({ powerPreference: options.powerPreference ?? "high-performance" }));
  const adapter = await requestAdapter();
  if (!adapter) throw new NoAdapterError(engine, hint);
  const requiredLimits = options.limits === "default" ? {} : highestLimits(adapter);
  const attempt = async (requiredFeatures: string[]): Promise<GPUDevice | undefined> => {
    // An adapter is spent by one successful request, so every try asks for a fresh one.
    const fresh = await requestAdapter();
    if (!fresh) throw new NoAdapterError(engine, hint);
    try {
      return await wait(fresh.requestDevice({ requiredFeatures: requiredFeatures as GPUFeatureName[], requiredLimits }));
    } catch (error) {
      if (requiredFeatures.length === 0)
        throw new AdapterLimitError("open a device", "device creation", 1, 0, error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const wanted = [
    "timestamp-query",
    ...(options.f16 === false ? [] : ["shader-f16"]),
    ...(options.subgroups === false ? [] : ["subgroups"]),
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
  const f16 = granted.includes("shader-f16");
  const timestampQuery = granted.includes("timestamp-query");
  const subgroups = granted.includes("subgroups") ? (implementation.subgroupsDirective ? "directive" : "implicit") : "none";
  const description = describeAdapter(adapter);
  const context = (dialect: Dialect): GpuContext =>
    new GpuContext({
      device,
      adapter: description,
      dialect,
      sources,
      wait,
      ...(options.choices && { choices: options.choices }),
      owner: [implementation.owner, gpu, adapter],
    });

  const base: Dialect = { engine, subgroups, subgroupSize: 0, f16, timestampQuery, fp8Decode: "unpack" };
  const probe = context(base);
  const fp8Decode = (await passesFp8SelfTest(probe, "unpack")) ? "unpack" : "select";
  if (fp8Decode === "select" && !(await passesFp8SelfTest(probe, "select")))
    throw new AdapterLimitError("use this adapter", "exact FP8 decoding", 256, 0, "both decoders failed the 256-code self-test");
  const size = subgroups === "none" ? undefined : await probeSubgroups(probe);
  const { subgroupMinSize: smallest = 0, subgroupMaxSize: largest = 0 } = adapter.info;
  return context({
    ...base,
    fp8Decode,
    subgroups: size === undefined ? "none" : subgroups,
    subgroupSize: size !== undefined && smallest === largest ? size : 0,
  });
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
    isSoftware: isFallback || /llvmpipe|lavapipe|swiftshader|software|basic render/i.test(text),
  };
}
