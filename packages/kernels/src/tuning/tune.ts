/**
 * Finds the fastest variants on a device: each case is verified and timed as the device prefers it, then with every other variant of each operation in it. A variant
 * that is wrong, or that fails, is reported and never chosen.
 */
import type { GpuContext } from "@shoal/gpu";
import { GpuError } from "@shoal/gpu";
import { timeDispatches } from "../bench/timing.ts";
import { seededRandom, withBuffers } from "../testing/mod.ts";
import type { PreparedCase, TuningCase } from "./case.ts";
import { tuningCases } from "./cases.ts";
import { type Measurement, type Winner, winners } from "./winners.ts";
import type { TuningSize } from "./shapes.ts";
import { type Offer, TrialChoices } from "./trial.ts";

export interface TuneOptions {
  readonly size: TuningSize;
  /** Fewer cases; on small ones, where compiling takes longer than running, also fewer variants. */
  readonly quick?: boolean;
  /** Only these folders of kernels. */
  readonly ops?: readonly string[];
  readonly onCase?: (progress: TuneProgress) => void;
  readonly signal?: AbortSignal;
}

export interface TuneProgress {
  readonly done: number;
  readonly total: number;
  /** The case that begins. */
  readonly name: string;
}

/** A variant that was not measured, or a case (`variant` is null), and why. */
export interface TuneProblem {
  readonly name: string;
  readonly operation: string | null;
  readonly variant: string | null;
  readonly problem: string;
}

export interface TuneResult {
  readonly winners: readonly Winner[];
  readonly measurements: readonly Measurement[];
  readonly problems: readonly TuneProblem[];
}

/** Besides the preferred one. */
const QUICK_VARIANTS = 1;

/**
 * @param gpu opened with `TrialChoices` as its choices
 * @throws RangeError where it was not, DeviceLostError, or the signal's reason
 */
export async function tune(gpu: GpuContext, { size, quick = false, ops, onCase, signal }: TuneOptions): Promise<TuneResult> {
  const { choices } = gpu;
  const most = quick && size === "small" ? QUICK_VARIANTS : Number.POSITIVE_INFINITY;
  if (!(choices instanceof TrialChoices)) throw new RangeError("Cannot tune: the context's choices are fixed, expected TrialChoices");
  const cases = tuningCases(gpu, size, quick).filter(({ op }) => ops?.includes(op) ?? true);
  const measurements: Measurement[] = [];
  const problems: TuneProblem[] = [];
  for (const [done, item] of cases.entries()) {
    signal?.throwIfAborted();
    onCase?.({ done, total: cases.length, name: item.name });
    choices.clear();
    choices.takeOffers();
    try {
      const measured = await measureCase(gpu, choices, item, { seed: done + 1, most, signal });
      measurements.push(...measured.measurements);
      problems.push(...measured.problems);
    } catch (error) {
      rethrowEnds(gpu, error, signal);
      problems.push({ name: item.name, operation: null, variant: null, problem: messageOf(error) });
    } finally {
      choices.clear();
    }
  }
  return { winners: winners(measurements), measurements, problems };
}

interface CaseOptions {
  readonly seed: number;
  /** Variants besides the preferred one. */
  readonly most: number;
  readonly signal: AbortSignal | undefined;
}

async function measureCase(
  gpu: GpuContext,
  choices: TrialChoices,
  { op, name, alone = false, prepare }: TuningCase,
  { seed, most, signal }: CaseOptions,
) {
  const measurements: Measurement[] = [];
  const problems: TuneProblem[] = [];
  await withBuffers(gpu, async (keep) => {
    const prepared = await prepare(gpu, keep, seededRandom(seed));
    // Making a case lets the clocks fall.
    const before = await measure(gpu, prepared, signal);
    const offers = [...choices.takeOffers()].filter(([operation]) => !alone || operation.startsWith(`${op}/`));
    const others: Omit<Measurement, "preferredMs">[] = [];
    for (const [operation, offer] of offers)
      for (const variant of othersOf(offer).slice(0, most)) {
        signal?.throwIfAborted();
        choices.set(operation, variant);
        try {
          const ms = await gpu.scoped(`run ${operation} as ${variant}`, () => measure(gpu, prepared, signal, UNDER_LOAD_MS));
          others.push({ name, operation, variant, preferred: offer.preferred, ms });
        } catch (error) {
          rethrowEnds(gpu, error, signal);
          problems.push({ name, operation, variant, problem: messageOf(error) });
        } finally {
          choices.delete(operation);
        }
      }
    // Clocks rise and fall: the preferred one is timed before and after the others.
    const preferredMs = others.length === 0 ? before : Math.min(before, await measure(gpu, prepared, signal, UNDER_LOAD_MS));
    choices.takeOffers();
    for (const [operation, { preferred }] of offers)
      measurements.push({ name, operation, variant: preferred, preferred, ms: preferredMs, preferredMs });
    for (const other of others) measurements.push({ ...other, preferredMs });
  });
  return { measurements, problems };
}

/** Between two measurements the clocks fall less than before the first. */
const UNDER_LOAD_MS = 60;

/** Milliseconds of one round. @throws MismatchError */
async function measure(
  gpu: GpuContext,
  { record, rounds, outputs, changed = [], verify }: PreparedCase,
  signal?: AbortSignal,
  warmMs?: number,
): Promise<number> {
  const dispatches = await record();
  for (const buffer of outputs) spoil(gpu, buffer);
  for (const { buffer, before } of changed) gpu.write(buffer, 0, before);
  gpu.submit(dispatches);
  await verify();
  return (await timeDispatches(gpu, dispatches, signal, warmMs)) / rounds;
}

const SPOILED_AT_ONCE = 4 * 2 ** 20;

/** NaN everywhere, so that nobody's old outputs pass for new ones. */
function spoil(gpu: GpuContext, buffer: GPUBuffer): void {
  const bytes = new Uint8Array(Math.min(SPOILED_AT_ONCE, buffer.size)).fill(0xff);
  for (let at = 0; at < buffer.size; at += bytes.byteLength)
    gpu.write(buffer, at, bytes.subarray(0, Math.min(bytes.byteLength, buffer.size - at)));
}

function othersOf({ variants, preferred }: Offer): readonly string[] {
  return variants.filter((name) => name !== preferred);
}

/** What ends the whole tuning rather than one measurement. */
function rethrowEnds(gpu: GpuContext, error: unknown, signal: AbortSignal | undefined): void {
  signal?.throwIfAborted();
  if (error instanceof GpuError && error.name === "DeviceLostError") throw error;
  gpu.check();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
