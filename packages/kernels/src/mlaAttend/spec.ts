/** What attention over a short context is asked for with. */
import type { KvWriteSpec } from "../kvWrite/kernel.ts";
import type { HalvesRows } from "../matrix/halves.ts";
import type { MlaOutputSpec } from "../mlaOutput/kernel.ts";

/** What goes from one dispatch to the next, where it takes several: as many bytes as attendScratchBytes() says. */
export interface AttendScratch {
  readonly absorbed: GPUBuffer;
  readonly partial: GPUBuffer;
}

export interface MlaAttendSpec extends Omit<KvWriteSpec, "exact">, Pick<MlaOutputSpec, "kvB" | "out" | "outStride"> {
  /** q [tokens, qStride] f32, per head [qkNopeHeadDim | qkRopeHeadDim]. */
  readonly q: GPUBuffer;
  readonly qStride: number;
  readonly softmaxScale: number;
  /** Where values are written as halves, in place of `out`, if `attendsInHalves`. */
  readonly halves?: HalvesRows | undefined;
  /** Without it, nothing that takes several dispatches runs. */
  readonly scratch?: AttendScratch | undefined;
  /** By name, of attendVariants(). */
  readonly variant?: string;
}
