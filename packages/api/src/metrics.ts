/** Counters in Prometheus' text format. */
import type { EngineStatus } from "@shoal/engine";
import type { ExpertPaging, RequestRecord } from "./options.ts";

export class Metrics {
  /** By their labels, of which there are few: routes that are known, and statuses. */
  readonly #requests = new Map<string, { count: number; seconds: number }>();

  count({ status, ms }: RequestRecord, route: string): void {
    const labels = `{route="${route}",status="${status}"}`;
    const sum = this.#requests.get(labels) ?? { count: 0, seconds: 0 };
    this.#requests.set(labels, { count: sum.count + 1, seconds: sum.seconds + ms / 1000 });
  }

  text({ running, waiting, kvBlocks, totals }: EngineStatus, paging: readonly ExpertPaging[] = []): string {
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
    metric("draft_tokens_total", "Tokens that the MTP module drafted.", [["", totals.draftTokens]]);
    metric("accepted_draft_tokens_total", "Of these, right.", [["", totals.acceptedDraftTokens]]);
    const paged = (name: string, help: string, of: (device: ExpertPaging) => number): void => {
      if (paging.length > 0)
        metric(
          name,
          help,
          paging.map((each) => [`{device="${escaped(each.device)}"}`, of(each)]),
        );
    };
    paged("experts_needed_total", "Experts that steps needed on a device that pages them.", ({ needed }) => needed);
    paged("expert_hits_total", "Of these, on the device already.", ({ hits }) => hits);
    paged("expert_loads_total", "Experts that were read.", ({ loads }) => loads);
    paged("expert_loaded_bytes_total", "Bytes of these.", ({ loadedBytes }) => loadedBytes);
    paged("expert_prefetches_total", "Experts that were read before a step needed them.", ({ prefetched }) => prefetched);
    paged("expert_prefetch_hits_total", "Of these, needed later.", ({ prefetchHits }) => prefetchHits);
    paged("expert_stall_seconds_total", "Time that steps waited for experts.", ({ stallMs }) => stallMs / 1000);
    return `${lines.join("\n")}\n`;
  }
}

/** A label's value; adapters name themselves. */
function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
