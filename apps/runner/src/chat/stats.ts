/** Tokens and seconds of one answer, and of a whole conversation. */
import type { GenerationTimings } from "@shoal/engine";
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

/** A line for each device that pages experts. */
export function pagingLines(devices: readonly DevicePaging[]): readonly string[] {
  return devices.flatMap(({ device, stats }) => {
    const sum = (of: (each: (typeof stats)[number]) => number): number => stats.reduce((total, each) => total + of(each), 0);
    const needed = sum((each) => each.needed);
    if (needed === 0) return [];
    const there = `${((100 * sum(({ hits }) => hits)) / needed).toFixed(1)} % of ${formatCount(needed)} experts were there`;
    const read = `${formatCount(sum(({ loads }) => loads))} read (${formatBytes(sum(({ loadedBytes }) => loadedBytes))})`;
    const ahead = `${sum(({ prefetchHits }) => prefetchHits)} of ${sum(({ prefetched }) => prefetched)} prefetched ones used`;
    return [`${device}: ${there}, ${read}, ${ahead}; ${formatDuration(sum(({ stallMs }) => stallMs))} of waiting`];
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
