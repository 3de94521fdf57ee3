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
    const metric = (name: string, type: "counter" | "gauge", values: readonly (readonly [labels: string, value: number])[]): void => {
      lines.push(`# TYPE shoal_${name} ${type}`, ...values.map(([labels, value]) => `shoal_${name}${labels} ${value}`));
    };
    const requests = [...this.#requests];
    metric(
      "http_requests_total",
      "counter",
      requests.map(([labels, { count }]) => [labels, count]),
    );
    metric(
      "http_request_seconds_total",
      "counter",
      requests.map(([labels, { seconds }]) => [labels, seconds]),
    );
    metric("requests_running", "gauge", [["", running]]);
    metric("requests_waiting", "gauge", [["", waiting]]);
    metric("kv_blocks", "gauge", [
      ['{state="total"}', kvBlocks.total],
      ['{state="free"}', kvBlocks.free],
      ['{state="cached"}', kvBlocks.cached],
    ]);
    metric("prompt_tokens_total", "counter", [["", totals.promptTokens]]);
    metric("cached_prompt_tokens_total", "counter", [["", totals.cachedTokens]]);
    metric("completion_tokens_total", "counter", [["", totals.completionTokens]]);
    metric("preemptions_total", "counter", [["", totals.preemptions]]);
    metric("steps_total", "counter", [["", totals.steps]]);
    return `${lines.join("\n")}\n`;
  }
}
