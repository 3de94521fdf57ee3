/**
 * A step that verifies drafts and makes new ones without waiting for its outcome: which drafts were right is settled on the device, and the next step goes on from there. The host
 * counts as if all were right, until it has read which were.
 */
import type { BatchEntry, Stage } from "@shoal/model";
import { MadeDrafts } from "./madeDrafts.ts";
import type { Readings, SettledRows } from "./readings.ts";
import { type ScheduledEntry, type ScheduledStep, isDecode, rowCount } from "./schedule.ts";
import { batchOf, followerRows } from "./stepBatch.ts";

/** Its tokens are read as `readings` sees fit. */
export async function submitChained(
  stage: Stage,
  readings: Readings,
  { entries, drafts }: Pick<ScheduledStep, "entries" | "drafts">,
): Promise<void> {
  const batch = batchOf(entries);
  const { step } = await stage.forward({ ...batch, chain: true });
  // Before the drafts, so that tokens arrive while these are made.
  readings.add({
    step,
    rows: entries.flatMap((entry) => [...followerRows(entry), ...ownRows(entry)]),
    decodes: entries.every(isDecode),
    logprobs: batch.logprobs === true,
    masked: false,
    chain: {
      drafts,
      entries: entries.map(({ request, placement, followedBy, quiet, verify }) => ({
        request,
        placement,
        given: followedBy.length,
        quiet,
        verify,
      })),
    },
  });
  // Whoever has but one token to go ends with this step, whatever becomes of its drafts.
  const goesOn = entries.some(({ request, placement, quiet }) => quiet || placement.chosen + 1 < request.mostTokens);
  const output = goesOn ? await stage.draft({ entries: entries.map(draftEntry), output: "sample", drafts, chain: true }) : undefined;
  const made = output && new MadeDrafts(stage, output.step, drafts);
  let stream = 0;
  for (const entry of entries) {
    const { placement, quiet, verify } = entry;
    placement.length += rowCount(entry);
    if (quiet) continue;
    placement.chosen += 1 + verify;
    placement.drafts = made && { made, stream: stream++ };
    // Further drafts took positions beyond the last.
    if (made && drafts > 1) await stage.truncate(placement.slot, placement.length);
  }
}

/** A row for each token that is chosen. */
function ownRows({ request, placement, quiet, verify }: ScheduledEntry): readonly Pick<ScheduledEntry, "request" | "placement">[] {
  return Array.from({ length: quiet ? 0 : 1 + verify }, () => ({ request, placement }));
}

function draftEntry(entry: ScheduledEntry): BatchEntry {
  const { request, placement, quiet, verify } = entry;
  const end = placement.length + rowCount(entry);
  const known = isDecode(entry) ? [] : request.ids(placement.length + 1, quiet ? end + 1 : end);
  return { sequence: placement.slot, tokens: known.length > 0 ? known : "sampled", ...(quiet && { quiet }), ...(verify && { verify }) };
}

/** Takes back what was counted for drafts that were wrong. */
export async function settle(stage: Stage, { entries }: SettledRows): Promise<void> {
  for (const { request, placement, verify, right } of entries) {
    if (right === verify) continue;
    placement.length -= verify - right;
    placement.chosen -= verify - right;
    // Whoever lost or changed its place since has none of these positions.
    if (request.placement === placement) await stage.truncate(placement.slot, placement.length);
  }
}
