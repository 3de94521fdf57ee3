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
  const choosing = entries.filter(({ quiet }) => !quiet);
  // Whoever has but one token to go if the drafts on their way are right verifies none after them.
  const goesOn = choosing.some(({ request, placement, verify }) => placement.chosen + verify + 2 < request.mostTokens);
  const drafting = { entries: choosing.map(draftEntry), output: "sample", drafts, chain: true } as const;
  const output = goesOn ? await stage.draft(drafting) : undefined;
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

/**
 * Rows of a prompt that the module runs over: its last, as many as a step of few tokens has. The main model's state, from which the module starts, knows the rest, and an answer may be too
 * short to pay for more: on the embedded model's chats 1.82 tokens a step come of these, 1.75 of the last one alone, 1.85 of all.
 */
const PROMPT_ROWS = 4;

function draftEntry(entry: ScheduledEntry): BatchEntry {
  const { request, placement, verify } = entry;
  const sequence = placement.slot;
  if (isDecode(entry)) return { sequence, tokens: "sampled", ...(verify && { verify }) };
  const rows = rowCount(entry);
  const draftFrom = Math.max(0, rows - PROMPT_ROWS);
  const known = request.ids(placement.length + draftFrom + 1, placement.length + rows);
  return { sequence, tokens: known.length > 0 ? known : "sampled", ...(draftFrom && { draftFrom }) };
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
