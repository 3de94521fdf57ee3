/**
 * A step that verifies drafts and makes new ones without waiting for its outcome: which drafts were right is settled on the device, and the next step goes on from there. The host
 * counts as if all were right, until it has read which were.
 */
import type { Stage } from "@shoal/model";
import { MadeDrafts } from "./madeDrafts.ts";
import type { Readings, SettledRows } from "./readings.ts";
import { type ScheduledStep, rowCount } from "./schedule.ts";
import { batchOf } from "./stepBatch.ts";

/** Its tokens are being read when this returns. */
export async function submitChained(
  stage: Stage,
  readings: Readings,
  { entries, drafts }: Pick<ScheduledStep, "entries" | "drafts">,
): Promise<void> {
  const batch = batchOf(entries);
  const { step } = await stage.forward({ ...batch, chain: true });
  const told = entries.map(({ request, placement, verify }) => ({ request, placement, verify }));
  // Before the drafts, so that tokens arrive while these are made.
  readings.add({
    step,
    rows: told.flatMap(({ request, placement, verify }) => Array.from({ length: 1 + verify }, () => ({ request, placement }))),
    decodes: true,
    logprobs: batch.logprobs === true,
    masked: false,
    chain: { drafts, entries: told },
  });
  const output = await stage.draft({
    entries: entries.map(({ placement: { slot }, verify }) => ({ sequence: slot, tokens: "sampled", ...(verify && { verify }) })),
    output: "sample",
    drafts,
    chain: true,
  });
  const made = new MadeDrafts(stage, output.step, drafts);
  for (const [stream, entry] of entries.entries()) {
    const { placement, verify } = entry;
    placement.length += rowCount(entry);
    placement.chosen += 1 + verify;
    placement.drafts = { made, stream };
    // Further drafts took positions beyond the last.
    if (drafts > 1) await stage.truncate(placement.slot, placement.length);
  }
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
