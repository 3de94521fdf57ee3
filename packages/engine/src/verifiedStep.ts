/**
 * A step that verifies the drafts of the one before and makes new ones. A draft is right if it is the token that the model chooses at its place, with the same noise where tokens are
 * drawn, and so were those before it: so what comes out is what would come out without drafts, token for token, and its distribution is the model's own. (Rejection sampling, Leviathan
 * et al., arXiv 2211.17192, keeps the distribution but not the tokens.)
 *
 * Drafts come from the MTP module (DeepSeek-V3, arXiv 2412.19437, section 2.2), which runs over every row that the model has run over, prompts included.
 */
import type { BatchEntry, ChosenLogprobs, Stage } from "@shoal/model";
import { MadeDrafts } from "./madeDrafts.ts";
import type { KnownToken } from "./readings.ts";
import { type ScheduledEntry, type ScheduledStep, rowCount } from "./schedule.ts";
import { batchOf, followerRows } from "./stepBatch.ts";

export interface DraftedStep {
  /** Undefined where every stream ends with this step. */
  readonly made: MadeDrafts | undefined;
  readonly chosen: readonly KnownToken[];
  /** Of each entry that verified; a draft that its grammar refuses is a wrong one. */
  readonly verified: readonly { readonly drafts: number; readonly right: number }[];
}

interface Outcome {
  readonly entry: ScheduledEntry;
  /** Tokens that the model chose and that follow one another: one, and one for each draft that was right. */
  readonly ids: readonly number[];
  /** These, and before them the prompt's that follow. */
  readonly known: readonly KnownToken[];
  /** Of the next token after each of the entry's rows. */
  readonly next: readonly number[];
  /** Positions whose tokens stand. */
  readonly length: number;
}

export async function chooseAndDraft(stage: Stage, { entries, drafts }: Pick<ScheduledStep, "entries" | "drafts">): Promise<DraftedStep> {
  const batch = batchOf(entries);
  const { step } = await stage.forward(batch);
  const verified = new Set(entries.flatMap(({ verify, placement }) => (verify > 0 && placement.drafts ? [placement.drafts.made] : [])));
  // All readings at once: a wait may cost more than a step.
  const [[chosen = []], [logprobs = []]] = await Promise.all([
    stage.sampled(step, 1),
    batch.logprobs === true ? stage.logprobs(step, 1) : [],
    ...[...verified].map((made) => made.read()),
  ]);
  const outcomes = outcomesOf(entries, { chosen, logprobs });
  const goesOn = outcomes.some(({ entry: { request, quiet }, ids }) => quiet || !request.endsWith(ids));
  const output = goesOn ? await stage.draft({ entries: outcomes.map(draftEntry), output: "sample", drafts }) : undefined;
  const made = output && new MadeDrafts(stage, output.step, drafts);
  let stream = 0;
  for (const { entry, ids, length } of outcomes) {
    const { placement, quiet } = entry;
    // Further drafts go on from the last position.
    const further = output && !quiet ? drafts - 1 : 0;
    const held = Math.max(placement.length + rowCount(entry), length + further);
    placement.length = length;
    if (!quiet) {
      placement.drafts = made && { made, stream: stream++ };
      placement.chosen += ids.length;
    }
    if (held > length) await stage.truncate(placement.slot, length);
  }
  return {
    made,
    chosen: outcomes.flatMap(({ known }) => known),
    verified: outcomes.flatMap(({ entry: { verify, refused }, ids }) =>
      verify > 0 || refused ? [{ drafts: verify + (refused ? 1 : 0), right: ids.length - 1 }] : [],
    ),
  };
}

function outcomesOf(
  entries: readonly ScheduledEntry[],
  { chosen, logprobs }: { readonly chosen: readonly number[]; readonly logprobs: readonly ChosenLogprobs[] },
): readonly Outcome[] {
  let at = 0;
  return entries.map((entry) => {
    const { request, placement, quiet, verify } = entry;
    const rows = rowCount(entry);
    const end = placement.length + rows;
    const followers = followerRows(entry);
    const begin = at + followers.length;
    const own = quiet ? [] : chosen.slice(begin, begin + 1 + verify);
    const guesses = verify > 0 ? (placement.drafts?.made.of(placement.drafts.stream) ?? []) : [];
    let right = 0;
    while (right < verify && guesses[right] === own[right]) right++;
    const ids = own.slice(0, 1 + right);
    const first = at;
    const known = [...followers, ...ids.map(() => ({ request, placement }))].map((row, index) => ({
      row,
      id: chosen[first + index] ?? 0,
      logprobs: logprobs[first + index],
    }));
    at = begin + own.length;
    if (quiet) return { entry, ids, known, next: request.ids(placement.length + 1, end + 1), length: end };
    const next = [...request.ids(placement.length + 1, end - verify), ...own];
    return { entry, ids, known, next, length: end - verify + right };
  });
}

/** Rows of wrong drafts are left out where no other rows follow: a step's rows cannot be skipped. */
function draftEntry({ entry: { placement, quiet, verify }, ids, next }: Outcome, index: number, all: readonly Outcome[]): BatchEntry {
  const sequence = placement.slot;
  if (quiet) return { sequence, tokens: next, quiet };
  const rows = next.length - verify + ids.length - 1;
  if (index === all.length - 1) return { sequence, tokens: next.slice(0, rows) };
  return { sequence, tokens: next, draftAfter: rows - 1 };
}
