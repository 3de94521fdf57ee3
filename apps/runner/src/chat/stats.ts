/** Tokens and seconds of one answer, and of a whole conversation. */
import type { GenerationTimings } from "@shoal/engine";
import type { PagingStats } from "@shoal/model";
import { formatBytes, formatCount, formatDuration } from "../format.ts";
import type { DevicePaging } from "../gpu/protocol.ts";

/** After the first token, which belongs to the prompt's time; null for a single token. */
export function tokensPerSecond({ generatedTokens, decodeMs }: Pick<GenerationTimings, "generatedTokens" | "decodeMs">): number | null {
  return generatedTokens > 1 && decodeMs > 0 ? ((generatedTokens - 1) / decodeMs) * 1000 : null;
}

export function summaryLine(timings: GenerationTimings): string {
  const { promptTokens, cachedTokens, generatedTokens, firstTokenMs, decodeMs } = timings;
  const rate = tokensPerSecond(timings);
  const speed = rate === null ? "" : ` (${rate.toPrecision(3)} tokens/s)`;
  const cached = cachedTokens > 0 ? `, ${cachedTokens} of them cached` : "";
  const prompt = `first token after ${formatDuration(firstTokenMs)} (prompt of ${formatCount(promptTokens)} tokens${cached})`;
  return `${plural(generatedTokens, "token")} in ${formatDuration(firstTokenMs + decodeMs)}${speed}; ${prompt}`;
}

/** A plan's prediction of a token beside what a token took; undefined where there is nothing to compare. */
export function predictionLine(decodeSeconds: number | undefined, timings: GenerationTimings): string | undefined {
  const rate = tokensPerSecond(timings);
  if (decodeSeconds === undefined || rate === null) return undefined;
  const off = decodeSeconds * rate - 1;
  const milliseconds = (seconds: number): string => `${(1000 * seconds).toPrecision(3)} ms`;
  return `a token was predicted to take ${milliseconds(decodeSeconds)}, and took ${milliseconds(1 / rate)} (prediction ${off < 0 ? "" : "+"}${(100 * off).toFixed(0)} %)`;
}

/** Of all of a device's shards. */
export function pagingTotals({ device, stats }: DevicePaging): PagingStats & { readonly device: string } {
  const sum = (of: (each: PagingStats) => number): number => stats.reduce((total, each) => total + of(each), 0);
  return {
    device,
    needed: sum(({ needed }) => needed),
    hits: sum(({ hits }) => hits),
    loads: sum(({ loads }) => loads),
    loadedBytes: sum(({ loadedBytes }) => loadedBytes),
    prefetched: sum(({ prefetched }) => prefetched),
    prefetchHits: sum(({ prefetchHits }) => prefetchHits),
    stallMs: sum(({ stallMs }) => stallMs),
  };
}

/** A line for each device that pages experts. */
export function pagingLines(devices: readonly DevicePaging[]): readonly string[] {
  return devices.map(pagingTotals).flatMap(({ device, needed, hits, loads, loadedBytes, prefetched, prefetchHits, stallMs }) => {
    if (needed === 0) return [];
    const there = `${((100 * hits) / needed).toFixed(1)} % of ${formatCount(needed)} experts were there`;
    const read = `${formatCount(loads)} read (${formatBytes(loadedBytes)})`;
    const ahead = `${prefetchHits} of ${prefetched} prefetched ones used`;
    return [`${device}: ${there}, ${read}, ${ahead}; ${formatDuration(stallMs)} of waiting`];
  });
}

export class ChatStats {
  #turns = 0;
  #generated = 0;
  #decoded = 0;
  #decodeMs = 0;
  #prompt = 0;
  #cached = 0;
  #last: GenerationTimings | undefined;

  add(timings: GenerationTimings): void {
    this.#turns++;
    this.#generated += timings.generatedTokens;
    this.#decoded += Math.max(0, timings.generatedTokens - 1);
    this.#decodeMs += timings.decodeMs;
    this.#prompt += timings.promptTokens;
    this.#cached += timings.cachedTokens;
    this.#last = timings;
  }

  lines(contextTokens: number): readonly string[] {
    if (!this.#last) return [`Nothing generated yet; the context holds ${formatCount(contextTokens)} tokens`];
    const rate = this.#decodeMs > 0 ? ` at ${((this.#decoded / this.#decodeMs) * 1000).toPrecision(3)} tokens/s` : "";
    const inUse = this.#last.promptTokens + this.#last.generatedTokens;
    return [
      `Last answer: ${summaryLine(this.#last)}`,
      `So far: ${plural(this.#turns, "answer")}, ${plural(this.#generated, "token")}${rate}; prompts of ${plural(this.#prompt, "token")}, ${formatCount(this.#cached)} of them cached`,
      `Context: ${formatCount(inUse)} of ${formatCount(contextTokens)} tokens`,
    ];
  }
}

function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
