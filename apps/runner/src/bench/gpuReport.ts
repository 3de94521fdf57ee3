/** The results of `shoal bench --suite gpu`: their JSON form, whose names are kept stable because others plot them, and the table of them. */
import type { GpuBench, GpuCeilings, GpuRow, GpuUnit, MeasuredRow } from "@shoal/model/bench";
import { formatTable } from "../format.ts";
import { adapterLine } from "../gpu/session.ts";
import type { ReportHead } from "./report.ts";

export interface GpuReport extends ReportHead, GpuBench {
  readonly suite: "gpu";
}

export function gpuTable(report: GpuReport): string {
  const { size, ceilings, rows, ...head } = report;
  const shapes = size === "full" ? "the published ones, random weights" : "small ones: figures mean little, and have no targets";
  const tables = rows.flatMap((row) => (row.status === "ok" && row.gpuTimes ? [kernelTable(row, ceilings)] : []));
  return [
    formatTable([["Adapter", adapterLine(head)], ["Shapes", shapes], ...ceilingLines(ceilings)]),
    formatTable([["row", "figure", "target", "", "limit", "reached", "set by", "CPU encodes", "what"], ...rows.map(rowOf)]),
    ...(tables.length > 0 ? tables : ["GPU time by kernel: unknown, this device has no timestamp queries\n"]),
    formatTable([
      ["Verified before it was timed", ""],
      ...rows.flatMap((row) => (row.status === "ok" ? [[`  ${title(row)}`, row.verified]] : [])),
    ]),
  ].join("\n");
}

/** "16b-decode: 350 tokens/s, target 420 tokens/s: missed". */
export function rowLine(row: GpuRow): string {
  if (row.status !== "ok") return `${title(row)}: ${row.status} (${row.reason.code}): ${row.reason.message}`;
  const { value, unit, target, pass, limit, shareOfLimit } = row;
  const wanted = target === null ? "" : `, target ${figure(target, unit)}: ${verdict(pass)}`;
  const of = limit === null || shareOfLimit === null ? "" : `, ${percent(shareOfLimit)} of what ${limit.by} allow`;
  return `${title(row)}: ${figure(value, unit)}${wanted}${of}`;
}

function ceilingLines({ readBytesPerSecond, copyBytesPerSecond, dispatchMs, flopsPerSecond }: GpuCeilings): string[][] {
  const rate = (flops: number | null): string => (flops === null ? "none" : `${(flops / 1e12).toPrecision(3)} TFLOP/s`);
  return [
    ["Reads", `${figure(readBytesPerSecond / 1e9, "GB/s")}; a copy reads and writes ${figure(copyBytesPerSecond / 1e9, "GB/s")}`],
    ["Dispatches", `${(dispatchMs * 1000).toPrecision(3)} us each, where one waits for another`],
    [
      "Multiplies",
      `${rate(flopsPerSecond.plain)} plain, ${rate(flopsPerSecond["subgroup matrices"])} on subgroup matrices: the best kernels of this run`,
    ],
  ];
}

function rowOf(row: GpuRow): string[] {
  if (row.status !== "ok") return [title(row), row.status, "", "", "", "", "", "", `${row.reason.code}: ${row.reason.message}`];
  const { value, unit, target, pass, limit, shareOfLimit, encodeMs, what } = row;
  return [
    title(row),
    figure(value, unit),
    target === null ? "" : figure(target, unit),
    verdict(pass),
    limit === null ? "" : figure(limit.value, unit),
    shareOfLimit === null ? "" : percent(shareOfLimit),
    limit === null ? "" : limitText(limit),
    encodeMs === null ? "" : `${encodeMs.toPrecision(2)} ms`,
    what,
  ];
}

function limitText({ by, ms }: NonNullable<MeasuredRow["limit"]>): string {
  const { bytes, flops, dispatches } = ms;
  const time = (value: number | null): string => (value === null ? "unknown" : value.toPrecision(3));
  return `${by} (ms: bytes ${time(bytes)}, flops ${time(flops)}, dispatches ${time(dispatches)})`;
}

function kernelTable(row: MeasuredRow, { readBytesPerSecond }: GpuCeilings): string {
  const { gpuTimes, work } = row;
  if (!gpuTimes) return "";
  const lines = gpuTimes.kernels.map(({ label, shader, dispatches, gpuMs, share, bytes, flops }) => {
    const bytesPerSecond = gpuMs > 0 ? (bytes * 1000) / gpuMs : 0;
    const reads = bytesPerSecond > 0 ? [figure(bytesPerSecond / 1e9, "GB/s"), percent(bytesPerSecond / readBytesPerSecond)] : ["", ""];
    const multiplies = gpuMs > 0 && flops > 0 ? `${(flops / gpuMs / 1e9).toPrecision(3)} TFLOP/s` : "";
    return [`  ${label}`, String(dispatches), gpuMs.toFixed(4), percent(share), ...reads, multiplies, shader];
  });
  const all = String(work?.dispatches ?? gpuTimes.kernels.reduce((sum, { dispatches }) => sum + dispatches, 0));
  return formatTable([
    [`GPU time of ${title(row)}`, "dispatches", "ms", "share", "reads", "of a read", "multiplies", "shader"],
    ...lines,
    ["  all, each in a pass of its own", all, gpuTimes.gpuMs.toFixed(4), "100 %", "", "", "", ""],
  ]);
}

function title({ name, arithmetic }: Pick<GpuRow, "name" | "arithmetic">): string {
  return arithmetic === "plain" ? name : `${name} (${arithmetic})`;
}

function verdict(pass: boolean | null): string {
  return pass === null ? "" : pass ? "met" : "missed";
}

function figure(value: number, unit: GpuUnit): string {
  const digits = value >= 1000 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3);
  return unit === "ratio" ? digits : `${digits} ${unit}`;
}

function percent(share: number): string {
  const percents = share * 100;
  return `${percents >= 99.5 ? Math.round(percents) : percents.toPrecision(2)} %`;
}
