/** The results of `shoal bench`: their JSON forms, whose names are kept stable because others plot them, and the tables of them. */
import { availableParallelism } from "node:os";
import type { AdapterDescription, Dialect } from "@shoal/gpu";
import type { KvFormat, NumericMode } from "@shoal/model";
import type { BenchSize, KernelBenchResult, KernelTimes, ModelBench, Throughput } from "@shoal/model/bench";
import { formatBytes, formatCount, formatParameters, formatTable } from "../format.ts";
import type { DeviceReport } from "../gpu/protocol.ts";
import { adapterLine } from "../gpu/session.ts";
import { VERSION } from "../version.ts";

/** What every report begins with. */
export interface ReportHead {
  /** Of this form. */
  readonly format: 1;
  readonly suite: "quick" | "kernels" | "gpu";
  /** Shoal's. */
  readonly version: string;
  /** ISO 8601, when the measurement ended. */
  readonly date: string;
  readonly machine: { readonly deno: string; readonly system: string; readonly architecture: string; readonly cpus: number };
  readonly engine: Dialect["engine"];
  readonly adapter: AdapterDescription;
  readonly dialect: Dialect;
}

export interface QuickReport extends ReportHead, ModelBench {
  readonly suite: "quick";
  readonly model: { readonly name: string; readonly layers: number; readonly parameters: number; readonly activeParameters: number };
  readonly options: {
    readonly mode: NumericMode;
    readonly kv: KvFormat;
    readonly promptTokens: number;
    readonly newTokens: number;
    readonly repeat: number;
    readonly chunkTokens: number;
  };
  /** Of loading: from the first header to a stage that is ready, and the bytes of the weights. */
  readonly loadSeconds: number;
  readonly loadBytes: number;
  /** The verified answer as text; null where the checkpoint has no tokenizer. */
  readonly answer: string | null;
}

export interface KernelsReport extends ReportHead {
  readonly suite: "kernels";
  /** `full`: DeepSeek-V3's shapes. `small`: for software adapters. */
  readonly size: BenchSize;
  readonly results: readonly KernelBenchResult[];
}

export function reportHead({ adapter, dialect }: Pick<DeviceReport, "adapter" | "dialect">): Omit<ReportHead, "suite"> {
  return {
    format: 1,
    version: VERSION,
    date: new Date().toISOString(),
    machine: { deno: Deno.version.deno, system: Deno.build.os, architecture: Deno.build.arch, cpus: availableParallelism() },
    engine: dialect.engine,
    adapter,
    dialect,
  };
}

export function kernelsTable({ size, results, ...head }: KernelsReport): string {
  const shapes = size === "full" ? "DeepSeek-V3's" : "small ones, whose times mean little";
  return [
    formatTable([
      ["Adapter", adapterLine(head)],
      ["Shapes", shapes],
      ["Verified", "a sample of each kernel's outputs equals its f64 reference's, before it is timed"],
    ]),
    formatTable([["kernel", "shapes", "ms", "reads, writes", "of a copy", "GFLOP/s"], ...results.map(kernelsRow)]),
  ].join("\n");
}

function kernelsRow({ op, name, ms, gbPerS, shareOfCopy, gflops }: KernelBenchResult): string[] {
  return [op, name, ms.toPrecision(3), `${gbPerS.toPrecision(3)} GB/s`, percent(shareOfCopy), gflops > 0 ? gflops.toPrecision(3) : ""];
}

export function quickTable(report: QuickReport): string {
  const { model, options, verification, prefill, decode, bandwidth, memory } = report;
  const { step } = decode;
  const answer = report.answer === null ? "" : `: ${JSON.stringify(report.answer)}`;
  const ties = verification.nearTies > 0 ? `, ${verification.nearTies} of them by less than rounding` : "";
  const known = verification.knownAnswer ? ", and are the answer expected" : "";
  return [
    formatTable([
      ["Adapter", adapterLine(report)],
      [
        "Model",
        `${model.name}, ${formatParameters(model.parameters)} parameters, ${formatParameters(model.activeParameters)} for each token, ${options.mode}, KV cache in ${options.kv}`,
      ],
      ["Verified", `${verification.comparedTokens} decoded tokens equal those of prefill${ties}${known}${answer}`],
      [
        "Loaded",
        `${formatBytes(report.loadBytes)} in ${report.loadSeconds.toPrecision(3)} s, ${formatBytes(report.loadBytes / report.loadSeconds)}/s`,
      ],
      ["Memory", memoryLine(memory)],
    ]),
    formatTable([
      ["Speed", "tokens/s", `median of ${options.repeat}, and all`],
      [`  prefill of ${prefill.tokens}`, rate(prefill.tokensPerSecond), samples(prefill)],
      [`  decode of ${decode.tokens}`, rate(decode.tokensPerSecond), samples(decode)],
    ]),
    formatTable([
      ["A decode step", ""],
      ["  dispatches", `${step.dispatches}, one submit`],
      [
        "  reads",
        `${formatBytes(step.bytes)} (weights once, inputs of small kernels) and ${formatBytes(step.kvCacheBytes)} of the KV cache`,
      ],
      ["  CPU", `${ms(step.encodeMs)} to encode, ${ms(decode.submitMs)} to plan, encode and submit`],
      [
        "  bandwidth",
        `${formatBytes(decode.bytesPerSecond)}/s, ${percent(decode.shareOfCopy)} of what a plain copy moves (${formatBytes(bandwidth.copyBytesPerSecond)}/s; a plain read ${formatBytes(bandwidth.readBytesPerSecond)}/s)`,
      ],
    ]),
    kernelTable("decode step", decode, bandwidth.copyBytesPerSecond),
    kernelTable(`prefill step of ${prefill.step.tokens}`, prefill, bandwidth.copyBytesPerSecond),
  ].join("\n");
}

function kernelTable(what: string, { gpuTimes, step }: Pick<Throughput, "gpuTimes" | "step">, copyBytesPerSecond: number): string {
  if (!gpuTimes) return `GPU time of a ${what} by kernel: unknown, this device has no timestamp queries\n`;
  const { kernels, gpuMs } = gpuTimes;
  return formatTable([
    [`GPU time of a ${what}`, "dispatches", "ms", "share", "reads", "of a copy"],
    ...kernels.map((kernel) => kernelRow(kernel, copyBytesPerSecond)),
    ["  all, each in a pass of its own", String(step.dispatches), gpuMs.toFixed(3), "100 %", "", ""],
  ]);
}

function kernelRow({ label, dispatches, gpuMs, share, bytes }: KernelTimes["kernels"][number], copyBytesPerSecond: number): string[] {
  const bytesPerSecond = gpuMs > 0 ? (bytes * 1000) / gpuMs : 0;
  const reads = bytesPerSecond > 0 ? [`${formatBytes(bytesPerSecond)}/s`, percent(bytesPerSecond / copyBytesPerSecond)] : ["", ""];
  return [`  ${label}`, String(dispatches), gpuMs.toFixed(3), percent(share), ...reads];
}

function memoryLine(memory: Readonly<Record<string, number>>): string {
  const names: Readonly<Record<string, string>> = { kvCache: "KV cache" };
  const parts = Object.entries(memory).filter(([, bytes]) => bytes > 0);
  return parts.map(([kind, bytes]) => `${names[kind] ?? kind} ${formatBytes(bytes)}`).join(", ");
}

function samples({ samples }: Pick<Throughput, "samples">): string {
  return samples.map(rate).join(", ");
}

function rate(tokensPerSecond: number): string {
  return tokensPerSecond >= 1000 ? formatCount(Math.round(tokensPerSecond)) : tokensPerSecond.toPrecision(3);
}

function percent(share: number): string {
  const percents = share * 100;
  return `${percents >= 99.5 ? Math.round(percents) : percents.toPrecision(2)} %`;
}

function ms(value: number): string {
  return `${value.toPrecision(2)} ms`;
}
