/** Which tokens the micro-batches of each step chose: steps have numbers of the pipeline's own, and what one reads comes in the order of the step's entries. */
import { type ChosenLogprobs, ModelError } from "@shoal/model";
import { KEPT_STEPS } from "../stage/stepNumbers.ts";

/** Of a step: what one micro-batch chose. */
export interface Choice {
  /** Places in the step's batch. */
  readonly entries: readonly number[];
  /** Rows of each that `sampled` tells of. */
  readonly counts: readonly number[];
  readonly step: Promise<number>;
  readonly ids: Promise<readonly number[]>;
  /** What the stage said with the step, when it has run. */
  readonly toldLogprobs: () => readonly ChosenLogprobs[] | undefined;
}

export class Choices {
  readonly #steps = new Map<number, readonly Choice[]>();

  add(step: number, choices: readonly Choice[]): void {
    this.#steps.set(step, choices);
    this.#steps.delete(step - KEPT_STEPS);
  }

  /** What each choice of some steps says, in the order of the entries. */
  async read<T>(first: number, count: number, what: (choice: Choice) => Promise<readonly T[]>): Promise<readonly (readonly T[])[]> {
    const steps = Array.from({ length: count }, (_, index) => {
      const choices = this.#steps.get(first + index);
      if (!choices) throw notThere(first + index);
      return choices;
    });
    return Promise.all(
      steps.map(async (choices) => {
        const byEntry: { readonly entry: number; readonly values: readonly T[] }[] = [];
        for (const choice of choices) {
          const values = await what(choice);
          let place = 0;
          for (const [index, entry] of choice.entries.entries()) {
            const taken = choice.counts[index] ?? 0;
            byEntry.push({ entry, values: values.slice(place, place + taken) });
            place += taken;
          }
        }
        return byEntry.sort((a, b) => a.entry - b.entry).flatMap(({ values }) => values);
      }),
    );
  }
}

export function notThere(step: number): ModelError {
  return new ModelError("bad-batch", `Cannot read the tokens of step ${step}: it sampled none, or more than ${KEPT_STEPS} steps ago`);
}
