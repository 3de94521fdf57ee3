/** The result of `shoal bench`: its JSON form, whose names are kept stable because others plot them, and the table of it. Pure. */
import type { AdapterDescription, Dialect } from "@shoal/gpu";
import type { KvFormat, NumericMode } from "@shoal/model";
import type { KernelTimes, ModelBench, Throughput } from "@shoal/model/bench";
import { formatBytes, formatCount, formatParameters, formatTable } from "../format.ts";
import { adapterLine } from "../gpu/session.ts";

export interface BenchReport extends ModelBench {
  /** Of this form. */
  readonly format: 1;
  readonly suite: "quick";
  /** Shoal's. */
  readonly version: string;
  /** ISO 8601, when the measurement ended. */
  readonly date: string;
  readonly machine: { readonly deno: string; readonly system: string; readonly architecture: string; readonly cpus: number };
  readonly engine: Dialect["engine"];
  readonly adapter: AdapterDescription;
  readonly dialect: Dialect;
  readonly model: { readonly name: string; readonly layers: number; readonly parameters: number; readonly activeParameters: number };
  readonly options: {
    readonly mode: NumericMode;
    readonly kv: KvFormat;
    readonly promptTokens: number;
    readonly newTokens: number;
    readonly repeat: number;
    readonly chunkTokens: number;
  };
  /** The verified answer as text; null where the checkpoint has no tokenizer. */
  readonly answer: string | null;
}

export function benchTable(report: BenchReport): string {
  const { model, options, verification, prefill, decode, copy, memory } = report;
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
        `${formatBytes(decode.bytesPerSecond)}/s, ${percent(decode.bandwidthShare)} of a copy's ${formatBytes(copy.bytesPerSecond)}/s (read and written)`,
      ],
    ]),
    kernelTable("decode step", decode, copy.bytesPerSecond),
    kernelTable(`prefill step of ${prefill.step.tokens}`, prefill, copy.bytesPerSecond),
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
  return `${(share * 100).toPrecision(2)} %`;
}

function ms(value: number): string {
  return `${value.toPrecision(2)} ms`;
}
