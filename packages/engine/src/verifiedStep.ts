/**
 * A step that verifies the drafts of the one before and makes new ones. A draft is right if it is the token that the model chooses at its place, with the same noise where tokens are
 * drawn: so what comes out is what would come out without drafts, token for token, and its distribution is the model's own. (Rejection sampling, Leviathan et al.,
 * arXiv 2211.17192, keeps the distribution but not the tokens.)
 *
 * Drafts come from the MTP module (DeepSeek-V3, arXiv 2412.19437, section 2.2), which runs over every row that the model has run over, prompts included.
 */
import type { BatchEntry, Stage } from "@shoal/model";
import type { KnownTokens } from "./readings.ts";
import { type ScheduledEntry, rowCount } from "./schedule.ts";

export interface DraftedStep {
  /** Of the drafts. */
  readonly step: number;
  readonly chosen: KnownTokens["tokens"];
}

interface Outcome {
  readonly entry: ScheduledEntry;
  /** Tokens that the model chose and that follow one another: two where the draft was right. */
  readonly ids: readonly number[];
  /** Of the next token after each of the entry's rows. */
  readonly next: readonly number[];
}

/** @param draftStep the drafting step before, which the placements' `draftIndex` belong to; entries that verify have one */
export async function chooseAndDraft(
  stage: Stage,
  entries: readonly ScheduledEntry[],
  draftStep: number | undefined,
): Promise<DraftedStep> {
  const { step } = await stage.forward({
    entries: entries.map(({ placement: { slot }, tokens, quiet, verify }) => ({
      sequence: slot,
      tokens,
      ...(quiet && { quiet }),
      ...(verify && { verify }),
    })),
    output: "sample",
  });
  const verifies = draftStep !== undefined && entries.some(({ verify }) => verify);
  // Both readings at once: a wait may cost more than a step.
  const [[chosen = []], [drafts = []]] = await Promise.all([stage.sampled(step, 1), verifies ? stage.drafted(draftStep, 1) : [[]]]);
  const outcomes = outcomesOf(entries, chosen, drafts);
  const output = await stage.draft({ entries: outcomes.map(draftEntry), output: "sample" });
  let index = 0;
  for (const { entry, ids } of outcomes) {
    const { placement, quiet, verify } = entry;
    placement.length += rowCount(entry);
    if (quiet) continue;
    placement.draftIndex = index++;
    placement.chosen += ids.length;
    if (!verify || ids.length === 2) continue;
    placement.length--;
    await stage.truncate(placement.slot, placement.length);
  }
  const known = outcomes.flatMap(({ entry, ids }) =>
    ids.map((id) => ({ row: { request: entry.request, placement: entry.placement }, id })),
  );
  return { step: output.step, chosen: known };
}

function outcomesOf(entries: readonly ScheduledEntry[], chosen: readonly number[], drafts: readonly number[]): readonly Outcome[] {
  let at = 0;
  return entries.map((entry) => {
    const { request, placement, quiet, verify } = entry;
    const { length } = placement;
    const rows = rowCount(entry);
    if (quiet) return { entry, ids: [], next: request.ids(length + 1, length + rows + 1) };
    const [first = 0, second = 0] = chosen.slice(at, at + (verify ? 2 : 1));
    at += verify ? 2 : 1;
    if (!verify) return { entry, ids: [first], next: [...request.ids(length + 1, length + rows), first] };
    const right = drafts[placement.draftIndex ?? -1] === first;
    return { entry, ids: right ? [first, second] : [first], next: [first, second] };
  });
}

function draftEntry({ entry: { placement, quiet, verify }, ids, next }: Outcome): BatchEntry {
  return { sequence: placement.slot, tokens: next, ...(quiet && { quiet }), ...(verify && { draftAfter: ids.length - 1 }) };
}
