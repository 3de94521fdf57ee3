/**
 * Steps as Chrome trace events, which Perfetto and chrome://tracing open: a process for each row, a slice for each dispatch. Times are microseconds. Pure.
 * Format: "Trace Event Format", JSON object form, complete events ("X") and metadata ("M").
 */
import type { RowTimeline } from "./result.ts";

export interface TraceFile {
  readonly displayTimeUnit: "ns";
  readonly otherData: Readonly<Record<string, string>>;
  readonly traceEvents: readonly TraceEvent[];
}

export type TraceEvent = CompleteEvent | MetadataEvent;

interface CompleteEvent {
  readonly name: string;
  readonly cat: "dispatch";
  readonly ph: "X";
  readonly ts: number;
  readonly dur: number;
  readonly pid: number;
  readonly tid: number;
  readonly args: {
    readonly shader: string;
    readonly bytes: number;
    readonly flops: number;
    readonly "GB/s": number;
    readonly "GFLOP/s": number;
  };
}

interface MetadataEvent {
  readonly name: "process_name" | "thread_name" | "process_sort_index";
  readonly ph: "M";
  readonly pid: number;
  readonly tid: number;
  readonly args: { readonly name: string } | { readonly sort_index: number };
}

/** @param about of the file as a whole: adapter, engine, date */
export function traceFile(timelines: readonly RowTimeline[], about: Readonly<Record<string, string>>): TraceFile {
  const traceEvents = timelines.flatMap(({ name, arithmetic, slices }, index): TraceEvent[] => {
    const place = { pid: index + 1, tid: 1 };
    return [
      { name: "process_name", ph: "M", ...place, args: { name: `${name} (${arithmetic})` } },
      { name: "process_sort_index", ph: "M", ...place, args: { sort_index: index } },
      { name: "thread_name", ph: "M", ...place, args: { name: "dispatches, each in a pass of its own" } },
      ...slices.map(({ label, shader, begin, end, bytes, flops }): TraceEvent => {
        const ns = Math.max(end - begin, 0);
        const rate = (amount: number): number => (ns > 0 ? amount / ns : 0);
        const args = { shader, bytes, flops, "GB/s": rate(bytes), "GFLOP/s": rate(flops) };
        return { name: label, cat: "dispatch", ph: "X", ts: begin / 1000, dur: ns / 1000, ...place, args };
      }),
    ];
  });
  return { displayTimeUnit: "ns", otherData: about, traceEvents };
}
