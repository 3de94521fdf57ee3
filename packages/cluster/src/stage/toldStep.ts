/** Steps of a stage that come with what was chosen in them, or with the next drafts as well: by one message each way, where each is a round trip. */
import type { Batch, ChosenLogprobs, Stage, StepOutput } from "@shoal/model";

/** A step with the tokens that it tells of, and their log-probabilities where the batch asks for them. */
export interface ToldStep {
  readonly output: StepOutput;
  readonly tokens: readonly number[];
  readonly logprobs?: readonly ChosenLogprobs[];
}

/** A stage that a step and its tokens can be had of at once. */
export interface TellingStage extends Stage {
  forwardTold(batch: Batch): Promise<ToldStep>;
}

export function tellsTokens(stage: Stage): stage is TellingStage {
  return "forwardTold" in stage;
}

/** What a stage must know beside the batch to draft after it; lists have an element for each entry. */
export interface Drafting {
  /** The drafts that are verified, which were right as far as they are what is chosen in their places. */
  readonly guesses: readonly (readonly number[])[];
  /** Of an entry's rows but those that a token is chosen after: the token that follows each. */
  readonly following: readonly (readonly number[])[];
  /** To make for each entry that is not quiet. */
  readonly drafts: number;
}

export interface DraftedStep extends ToldStep {
  /** For each entry that is not quiet; none where they could not be made. */
  readonly drafts: readonly (readonly number[])[];
}

/** A stage that verifies and drafts in one. */
export interface DraftingStage extends Stage {
  /** @param batch with output `sample` */
  forwardDrafted(batch: Batch, drafting: Drafting): Promise<DraftedStep>;
}

export function draftsAtOnce(stage: Stage): stage is DraftingStage {
  return "forwardDrafted" in stage;
}
