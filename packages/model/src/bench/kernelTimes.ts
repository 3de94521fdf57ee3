/** GPU time of a step by kernel: dispatches of one label together, by timestamp queries. */
import { type Command, type DispatchTiming, type GpuContext, profileCommands } from "@shoal/gpu";
import { median } from "./median.ts";

export interface KernelTime {
  readonly label: string;
  /** The file under `shaders/` that its dispatches run, several joined by commas: which variants were chosen. */
  readonly shader: string;
  readonly dispatches: number;
  /** Milliseconds, of all dispatches of this label. */
  readonly gpuMs: number;
  /** Of the step's GPU time. */
  readonly share: number;
  /** As in StepCost. */
  readonly bytes: number;
  /** Zero where nothing is multiplied. */
  readonly flops: number;
}

export interface KernelTimes {
  /** Sum over the dispatches; each has a compute pass of its own while it is timed, so a step in one pass takes less. */
  readonly gpuMs: number;
  readonly kernels: readonly KernelTime[];
}

/** Runs commands `repeat` times; undefined where the device has no timestamp queries. */
export async function kernelTimes(gpu: GpuContext, commands: readonly Command[], repeat: number): Promise<KernelTimes | undefined> {
  if (!gpu.dialect.timestampQuery) return undefined;
  const runs: (readonly DispatchTiming[])[] = [];
  for (let i = 0; i < repeat; i++) runs.push(await profileCommands(gpu, commands));
  return byLabel(runs);
}

/** The median over runs of each dispatch, summed by label, the longest first. */
export function byLabel(runs: readonly (readonly DispatchTiming[])[]): KernelTimes {
  const groups = new Map<string, { shaders: Set<string>; dispatches: number; gpuMs: number; bytes: number; flops: number }>();
  let total = 0;
  for (const [index, { dispatch }] of (runs[0] ?? []).entries()) {
    const samples = runs.flatMap((run) => {
      const timing = run[index];
      return timing ? [Math.max(0, timing.end - timing.begin) / 1e6] : [];
    });
    const gpuMs = median(samples);
    const group = groups.get(dispatch.label) ?? { shaders: new Set(), dispatches: 0, gpuMs: 0, bytes: 0, flops: 0 };
    if (dispatch.shader) group.shaders.add(dispatch.shader.path);
    group.dispatches++;
    group.gpuMs += gpuMs;
    group.bytes += dispatch.bytes ?? 0;
    group.flops += dispatch.flops ?? 0;
    total += gpuMs;
    groups.set(dispatch.label, group);
  }
  const kernels = [...groups].map(([label, { shaders, ...group }]) => ({
    label,
    shader: [...shaders].join(", "),
    ...group,
    share: total > 0 ? group.gpuMs / total : 0,
  }));
  return { gpuMs: total, kernels: kernels.toSorted((a, b) => b.gpuMs - a.gpuMs) };
}
