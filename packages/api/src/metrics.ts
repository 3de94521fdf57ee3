/** Counters in Prometheus' text format. */
import type { EngineStatus } from "@shoal/engine";
import type { RequestRecord } from "./options.ts";

export class Metrics {
  /** By their labels, of which there are few: routes that are known, and statuses. */
  readonly #requests = new Map<string, { count: number; seconds: number }>();

  count({ status, ms }: RequestRecord, route: string): void {
    const labels = `{route="${route}",status="${status}"}`;
    const sum = this.#requests.get(labels) ?? { count: 0, seconds: 0 };
    this.#requests.set(labels, { count: sum.count + 1, seconds: sum.seconds + ms / 1000 });
  }

  text({ running, waiting, kvBlocks, totals }: EngineStatus): string {
    const lines: string[] = [];
    const metric = (name: string, help: string, values: readonly (readonly [labels: string, value: number])[]): void => {
      const type = name.endsWith("_total") ? "counter" : "gauge";
      lines.push(`# HELP shoal_${name} ${help}`, `# TYPE shoal_${name} ${type}`);
      lines.push(...values.map(([labels, value]) => `shoal_${name}${labels} ${value}`));
    };
    const requests = [...this.#requests];
    metric(
      "http_requests_total",
      "Requests that have ended, by route and status.",
      requests.map(([labels, { count }]) => [labels, count]),
    );
    metric(
      "http_request_seconds_total",
      "Time that they took, answers to their end.",
      requests.map(([labels, { seconds }]) => [labels, seconds]),
    );
    metric("requests_running", "Answers that are being computed.", [["", running]]);
    metric("requests_waiting", "Answers that wait for a place.", [["", waiting]]);
    metric("kv_blocks", "Blocks of the KV cache: in all, free, and kept for later prompts.", [
      ['{state="total"}', kvBlocks.total],
      ['{state="free"}', kvBlocks.free],
      ['{state="cached"}', kvBlocks.cached],
    ]);
    metric("prompt_tokens_total", "Tokens of prompts.", [["", totals.promptTokens]]);
    metric("cached_prompt_tokens_total", "Of these, found in the cache.", [["", totals.cachedTokens]]);
    metric("completion_tokens_total", "Tokens that were generated.", [["", totals.completionTokens]]);
    metric("preemptions_total", "Answers that lost their KV blocks to others and were computed anew.", [["", totals.preemptions]]);
    metric("steps_total", "Passes through the model.", [["", totals.steps]]);
    return `${lines.join("\n")}\n`;
  }
}
