/** The rows of the suite: stable names, what each measures, and what one H100 is to reach. Targets are for the full shapes. */

export const GPU_ROWS = [
  "ceiling",
  "gate-up",
  "down",
  "head",
  "layer-decode",
  "layer-32k",
  "layer-prefill",
  "16b-decode",
  "16b-decode-32",
  "16b-prefill",
  "16b-wgpu",
  "tiny-decode",
] as const;

export type GpuRowName = (typeof GPU_ROWS)[number];

export function isGpuRowName(name: string): name is GpuRowName {
  return GPU_ROWS.some((row) => row === name);
}

/** `GB/s`, `tokens/s` and `ratio`: more is better. `ms`: less. */
export type GpuUnit = "GB/s" | "ms" | "tokens/s" | "ratio";

/** Whether products of many tokens ran on subgroup matrices (tensor cores) or on plain arithmetic. */
export type Arithmetic = "plain" | "subgroup matrices";

interface GpuRowSpec {
  readonly unit: GpuUnit;
  /** In the row's unit; or a share of the rate of a plain read of this run. */
  readonly target?: { readonly value: number } | { readonly shareOfRead: number };
  /** The target is for this arithmetic alone; otherwise for any. */
  readonly arithmetic?: Arithmetic;
}

/** What Deno's own engine is to reach of Dawn's rate. */
export const RATIO_TARGET = 0.7;

export const GPU_ROW_SPECS: Readonly<Record<GpuRowName, GpuRowSpec>> = {
  ceiling: { unit: "GB/s" },
  "gate-up": { unit: "GB/s", target: { shareOfRead: 0.85 } },
  down: { unit: "GB/s", target: { shareOfRead: 0.8 } },
  head: { unit: "GB/s", target: { shareOfRead: 0.9 } },
  "layer-decode": { unit: "ms", target: { value: 0.27 } },
  "layer-32k": { unit: "ms", target: { value: 0.7 } },
  "layer-prefill": { unit: "ms", target: { value: 12 }, arithmetic: "subgroup matrices" },
  "16b-decode": { unit: "tokens/s", target: { value: 420 } },
  "16b-decode-32": { unit: "tokens/s", target: { value: 3500 } },
  "16b-prefill": { unit: "tokens/s", target: { value: 12_500 }, arithmetic: "subgroup matrices" },
  "16b-wgpu": { unit: "ratio", target: { value: RATIO_TARGET } },
  "tiny-decode": { unit: "tokens/s", target: { value: 2000 } },
};
