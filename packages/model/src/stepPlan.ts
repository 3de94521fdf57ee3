/** The rows of a step: what a batch asks for, checked before anything changes. */
import {
  MAX_DRAFTS,
  TOKEN_FROM_SAMPLER,
  positionFromFirst,
  positionFromLast,
  rowAfterRight,
  tokenFromDraft,
  tokenFromRing,
} from "@shoal/kernels";
import { ModelError } from "./errors.ts";
import type { SequenceSlot } from "./kvCache.ts";
import type { LogitAdjuster } from "./logitAdjuster.ts";
import type { Batch, BatchEntry } from "./stage.ts";

export interface PlannedStep {
  readonly tokens: number[];
  /** Where they are; in a chain, where they are if all drafts were right. */
  readonly positions: number[];
  /** As the device is told: these, or what stands for places that it knows alone. */
  readonly places: number[];
  readonly sequences: number[];
  /** Rows after which a token is chosen, or whose logits are wanted: the last of each entry, unless it says otherwise. */
  readonly chosenRows: number[];
  /** As the device is told, like `places`. */
  readonly chosenPlaces: number[];
  /** Of each of these: which tokens may be chosen, */
  readonly masks: (Uint32Array<ArrayBuffer> | undefined)[];
  /** or the token that is known to follow. */
  readonly given: (number | undefined)[];
  /** Of a draft: the rows of the step before that these go on from. */
  readonly sources: number[];
}

export interface StepPlannerParts {
  readonly plan: { readonly contextTokens: number; readonly maxTokens: number; readonly mtp: boolean };
  readonly vocab: number;
  readonly adjuster: LogitAdjuster;
  readonly lengthOf: (sequence: SequenceSlot) => number;
  /** Whether the device alone knows where the last step of a sequence left it. */
  readonly isSettled: (sequence: SequenceSlot) => boolean;
}

export class StepPlanner {
  readonly #parts: StepPlannerParts;

  constructor(parts: StepPlannerParts) {
    this.#parts = parts;
  }

  /**
   * @param at the rows whose positions are repeated, by a draft, instead of those that continue each sequence
   * @throws ModelError
   */
  plan({ entries, output, chain = false }: Batch, at?: PlannedStep): PlannedStep {
    const { adjuster, lengthOf } = this.#parts;
    const { contextTokens, maxTokens } = this.#parts.plan;
    const plan: PlannedStep = {
      tokens: [],
      positions: [],
      places: [],
      sequences: [],
      chosenRows: [],
      chosenPlaces: [],
      masks: [],
      given: [],
      sources: [],
    };
    if (chain && output !== "sample") throw new ModelError("bad-batch", `Cannot chain a step with output '${output}', expected 'sample'`);
    const seen = new Set<number>();
    for (const entry of entries) {
      const { sequence } = entry;
      if (seen.has(sequence)) throw new ModelError("bad-batch", `Cannot run a batch: sequence ${sequence} is in it twice`);
      seen.add(sequence);
      const source = at ? sourceRow(entry, at) : 0;
      const start = at ? (at.positions[source] ?? 0) : lengthOf(sequence);
      const drafting = chain && at ? this.#chainedIds(entry, at) : undefined;
      const ids = drafting ?? this.#checkedIds(entry);
      // Where a prompt ends is known.
      const chained = drafting !== undefined && entry.tokens === "sampled";
      const follows = chain && !at && entry.tokens === "sampled" && this.#parts.isSettled(sequence);
      const placeOf = (index: number): number =>
        chained ? positionFromFirst(index) : follows ? positionFromLast(1 + index) : start + index;
      // A chained draft goes on from its last row, whose token its entry does not name.
      const chosen = drafting ? (entry.quiet ? [] : [ids.length - 1]) : chosenRows(entry, output, at !== undefined);
      if (entry.masks && (output !== "sample" || at)) throw new ModelError("bad-batch", "Cannot mask in a step that chooses no token");
      const given = this.#checkedFollowers(entry, output, at !== undefined);
      const first = plan.tokens.length;
      for (const row of [...given.keys(), ...chosen]) {
        plan.chosenRows.push(first + row);
        plan.chosenPlaces.push(chained ? rowAfterRight(first) : first + row);
      }
      plan.masks.push(...given.map(() => undefined), ...adjuster.checkedMasks(entry, chosen.length));
      plan.given.push(...given, ...chosen.map(() => undefined));
      for (const [index, id] of ids.entries()) {
        plan.tokens.push(id);
        if (at) plan.sources.push(source + index);
        plan.positions.push(start + index);
        plan.places.push(placeOf(index));
        plan.sequences.push(sequence);
      }
      const end = start + ids.length;
      if (end > contextTokens)
        throw new ModelError("context-exceeded", `Cannot extend a sequence to ${end} tokens, expected at most ${contextTokens}`);
    }
    if (plan.tokens.length === 0 || plan.tokens.length > maxTokens)
      throw new ModelError("bad-batch", `Cannot run a batch of ${plan.tokens.length} tokens, expected 1 to ${maxTokens}`);
    return plan;
  }

  #checkedIds({ sequence, tokens, verify = 0 }: BatchEntry): readonly number[] {
    const { vocab, adjuster } = this.#parts;
    if (!Number.isInteger(verify) || verify < 0 || verify > MAX_DRAFTS)
      throw new ModelError("bad-batch", `Cannot verify ${verify} drafts, expected 0 to ${MAX_DRAFTS}`);
    if (verify > 0 && !this.#parts.plan.mtp) throw new ModelError("unsupported", "Cannot verify a draft: this stage has no MTP module");
    // Its tokens are chosen at once, and the second's penalties depend on the first.
    if (verify > 0 && adjuster.dependsOnHistory(sequence))
      throw new ModelError("unsupported", `Cannot verify a draft of sequence ${sequence}: it has penalties`);
    const drafted = Array.from({ length: verify }, (_, index) => tokenFromDraft(index));
    if (tokens === "sampled") return [TOKEN_FROM_SAMPLER, ...drafted];
    if (tokens.length === 0) throw new ModelError("bad-batch", "Cannot run a batch: an entry has no tokens");
    checkIds(tokens, vocab);
    return verify > 0 ? [...tokens, ...drafted] : tokens;
  }

  /** After each row that its sequence had in the step before: the tokens that are known to follow, then those that were chosen. */
  #chainedIds({ sequence, tokens, verify = 0, quiet = false, draftFrom = 0 }: BatchEntry, at: PlannedStep): readonly number[] {
    const outputs = at.chosenRows.flatMap((row, output) =>
      at.sequences[row] === sequence && at.given[output] === undefined ? [output] : [],
    );
    const rows = at.sequences.filter((slot) => slot === sequence).length - draftFrom;
    const known = tokens === "sampled" ? [] : tokens;
    checkIds(known, this.#parts.vocab);
    if (
      outputs.length !== (quiet ? 0 : verify + 1) ||
      known.length + outputs.length !== rows ||
      (verify > 0 && known.length + draftFrom > 0)
    )
      throw new ModelError(
        "bad-batch",
        `Cannot draft after a chained step: ${known.length} tokens are named and ${verify} drafts were verified of sequence ${sequence}, which had ${rows} rows from ${draftFrom} on and ${outputs.length} choices`,
      );
    return [...known, ...outputs.map(tokenFromRing)];
  }

  #checkedFollowers(entry: BatchEntry, output: Batch["output"], drafting: boolean): readonly number[] {
    const { followedBy = [], quiet = false, verify = 0 } = entry;
    if (followedBy.length === 0) return [];
    // After the last token one is chosen, unless the entry is quiet.
    const most = rowCount(entry) - (quiet ? 0 : 1);
    if (output !== "sample" || drafting || verify > 0 || followedBy.length > most)
      throw new ModelError(
        "bad-batch",
        `Cannot take ${followedBy.length} tokens that follow, expected at most ${most} in a forward step that samples and verifies no draft`,
      );
    checkIds(followedBy, this.#parts.vocab);
    return followedBy;
  }
}

/** The row of the step before that a draft's entry begins with. */
function sourceRow({ sequence, draftFrom = 0 }: BatchEntry, { sequences }: PlannedStep): number {
  const first = sequences.indexOf(sequence);
  if (first < 0) throw new ModelError("bad-batch", `Cannot draft: sequence ${sequence} was not in the step before`);
  if (!Number.isInteger(draftFrom) || draftFrom < 0 || sequences[first + draftFrom] !== sequence)
    throw new ModelError(
      "bad-batch",
      `Cannot draft from row ${draftFrom} of sequence ${sequence} on, expected one of the rows that it had`,
    );
  return first + draftFrom;
}

function checkIds(ids: readonly number[], vocab: number): void {
  const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocab);
  if (bad !== undefined) throw new ModelError("bad-batch", `Cannot run token ${bad}, expected an id from 0 to ${vocab - 1}`);
}

/** What a stage in the middle computes from: [tokens, stride] f32. */
export function hiddenRows({ entries }: Batch, hiddenSize: number, stride: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(entries.reduce((sum, entry) => sum + rowCount(entry), 0) * stride);
  let row = 0;
  for (const entry of entries) {
    const { hidden } = entry;
    const count = rowCount(entry);
    if (hidden?.length !== count * hiddenSize)
      throw new ModelError(
        "bad-batch",
        `Cannot run a batch: ${hidden?.length ?? 0} hidden values for ${count} tokens, expected ${count * hiddenSize}`,
      );
    for (let token = 0; token < count; token++, row++)
      values.set(hidden.subarray(token * hiddenSize, (token + 1) * hiddenSize), row * stride);
  }
  return values;
}

/** Rows of the step that an entry takes. */
export function rowCount({ tokens, verify = 0 }: BatchEntry): number {
  return (tokens === "sampled" ? 1 : tokens.length) + verify;
}

/** Rows of an entry after which a token is chosen, from 0. */
function chosenRows(entry: BatchEntry, output: Batch["output"], drafting: boolean): readonly number[] {
  const { quiet = false, verify = 0, draftAfter } = entry;
  const rows = rowCount(entry);
  if (quiet && output === "sample") return [];
  if (verify > 0) {
    if (output !== "sample" || drafting)
      throw new ModelError("bad-batch", "Cannot verify a draft in this step, expected a forward step that samples");
    return Array.from({ length: verify + 1 }, (_, index) => rows - verify - 1 + index);
  }
  if (draftAfter === undefined) return [rows - 1];
  if (!drafting || !Number.isInteger(draftAfter) || draftAfter < 0 || draftAfter >= rows)
    throw new ModelError("bad-batch", `Cannot draft after token ${draftAfter} of an entry, expected 0 to ${rows - 1} in a drafting step`);
  return [draftAfter];
}
