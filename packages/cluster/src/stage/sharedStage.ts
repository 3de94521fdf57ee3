/**
 * A stage that several users share, each over a `StageServer`, with drafts: a draft takes the rows of the step before, so between the two nobody else may have a step. `forwardDrafted` is
 * both in one, with what was chosen in between: over a distance that is one message each way as well, and the next drafts come with the tokens.
 */
import {
  type Batch,
  type BatchEntry,
  type ChosenLogprobs,
  type KvBlock,
  type KvRange,
  type KvSnapshot,
  ModelError,
  type SamplingParameters,
  type SequenceSlot,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
} from "@shoal/model";
import type { DraftedStep, Drafting, DraftingStage } from "./toldStep.ts";

export class SharedStage implements DraftingStage {
  readonly #stage: Stage;
  /** When the last step with drafts is through. What comes after it waits, in order. */
  #gate: Promise<unknown> = Promise.resolve();

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  describe(): Promise<StageDescription> {
    return this.#stage.describe();
  }

  open(prefix?: readonly KvBlock[]): Promise<SequenceSlot> {
    return this.#after(() => this.#stage.open(prefix));
  }

  retain(sequence: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    return this.#after(() => this.#stage.retain(sequence, first, count));
  }

  release(blocks: readonly KvBlock[]): Promise<void> {
    return this.#after(() => this.#stage.release(blocks));
  }

  exportKv(sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
    return this.#after(() => this.#stage.exportKv(sequence, range));
  }

  importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    return this.#after(() => this.#stage.importKv(snapshot, onto));
  }

  truncate(sequence: SequenceSlot, length: number): Promise<void> {
    return this.#after(() => this.#stage.truncate(sequence, length));
  }

  close(sequence: SequenceSlot): Promise<void> {
    return this.#after(() => this.#stage.close(sequence));
  }

  setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    return this.#after(() => this.#stage.setSampling(sequence, parameters, history));
  }

  forward(batch: Batch): Promise<StepOutput> {
    return this.#after(() => this.#stage.forward(batch));
  }

  /** @throws ModelError unsupported: another user's step may have come in between */
  draft(): Promise<StepOutput> {
    return Promise.reject(new ModelError("unsupported", "Cannot draft by itself on a shared stage, expected a step that drafts at once"));
  }

  sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#stage.sampled(first, count);
  }

  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#stage.logprobs(first, count);
  }

  drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#stage.drafted(first, count);
  }

  forwardDrafted(batch: Batch, drafting: Drafting): Promise<DraftedStep> {
    const done = this.#after(() => this.#forwardDrafted(batch, drafting));
    this.#gate = done.catch(() => undefined);
    return done;
  }

  destroy(): Promise<void> {
    return this.#stage.destroy();
  }

  #after<T>(work: () => Promise<T>): Promise<T> {
    return this.#gate.then(work);
  }

  async #forwardDrafted(batch: Batch, drafting: Drafting): Promise<DraftedStep> {
    const stage = this.#stage;
    const output = await stage.forward(batch);
    const [[tokens = []], [logprobs]] = await Promise.all([
      stage.sampled(output.step, 1),
      batch.logprobs === true ? stage.logprobs(output.step, 1) : [],
    ]);
    const drafts = await this.#draft(draftEntries(batch, drafting, tokens), drafting.drafts);
    return { output, tokens, ...(logprobs && { logprobs }), drafts };
  }

  async #draft(entries: readonly BatchEntry[], count: number): Promise<readonly (readonly number[])[]> {
    try {
      const { step } = await this.#stage.draft({ entries, output: "sample", drafts: count });
      const made = await this.#stage.drafted(step, count);
      return entries.filter(({ quiet }) => quiet !== true).map((_, stream) => made.flatMap((ids) => ids[stream] ?? []));
    } catch (error) {
      // The step stands: there was no room for positions of drafts, say.
      if (error instanceof ModelError) return [];
      throw error;
    }
  }
}

/** After the last row of each entry that stands. Rows of wrong drafts are left out where no others follow: a step's rows cannot be skipped. */
function draftEntries({ entries }: Batch, { guesses, following }: Drafting, tokens: readonly number[]): readonly BatchEntry[] {
  let at = 0;
  return entries.map(({ sequence, followedBy = [], quiet = false, verify = 0 }, index) => {
    at += followedBy.length;
    const own = quiet ? [] : tokens.slice(at, at + 1 + verify);
    at += own.length;
    const next = [...(following[index] ?? []), ...own];
    if (quiet) return { sequence, tokens: next, quiet };
    let right = 0;
    while (right < verify && guesses[index]?.[right] === own[right]) right++;
    const rows = next.length - verify + right;
    return index === entries.length - 1 ? { sequence, tokens: next.slice(0, rows) } : { sequence, tokens: next, draftAfter: rows - 1 };
  });
}
