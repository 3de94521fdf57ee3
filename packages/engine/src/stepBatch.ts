/** A scheduled step as the stage takes it, and who each of its tokens belongs to. */
import type { Batch } from "@shoal/model";
import type { SampledRow } from "./readings.ts";
import type { ScheduledEntry } from "./schedule.ts";

export function batchOf(entries: readonly ScheduledEntry[]): Batch {
  const logprobs = entries.some(({ request }) => request.request.topLogprobs !== undefined);
  return {
    entries: entries.map(({ placement: { slot }, tokens, followedBy, quiet, verify, masks }) => ({
      sequence: slot,
      tokens,
      ...(followedBy.length > 0 && { followedBy }),
      ...(quiet && { quiet }),
      ...(verify && { verify }),
      ...(masks && { masks }),
    })),
    output: "sample",
    ...(logprobs && { logprobs }),
  };
}

/** Of the prompt's tokens that follow an entry's. */
export function followerRows({ request, placement, followedBy }: ScheduledEntry): readonly SampledRow[] {
  return followedBy.map((_, index) => ({ request, placement, promptPosition: placement.length + index + 1 }));
}

/** Of everything that a step without drafts gives, in its order. To be called before the placements grow. */
export function rowsOf(entries: readonly ScheduledEntry[]): readonly SampledRow[] {
  return entries.flatMap((entry) => {
    const { request, placement, quiet } = entry;
    return [...followerRows(entry), ...(quiet ? [] : [{ request, placement }])];
  });
}
