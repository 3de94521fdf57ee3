/** Numbers of steps that stay consecutive for one user of a stage, though others use it too, or the stage is replaced by another. */
export interface StepRun {
  /** On the stage. */
  readonly first: number;
  readonly count: number;
}

/** As many as a stage keeps the tokens of. */
export const KEPT_STEPS = 64;

export class StepNumbers {
  #next = 0;
  readonly #numbers = new Map<number, number>();

  /** Steps are being submitted: the number of the first. */
  next(count = 1): number {
    const first = this.#next;
    for (; this.#next < first + count; this.#next++) this.#numbers.delete(this.#next - KEPT_STEPS);
    return first;
  }

  /** What the stage calls it. */
  note(step: number, onStage: number): void {
    if (step >= this.#next - KEPT_STEPS) this.#numbers.set(step, onStage);
  }

  get(step: number): number | undefined {
    return this.#numbers.get(step);
  }

  /** Steps `first .. first + count` as runs of the stage's numbers, in order; undefined if one of them is not known. */
  runs(first: number, count: number): readonly StepRun[] | undefined {
    const runs: StepRun[] = [];
    for (let step = first; step < first + count; step++) {
      const onStage = this.#numbers.get(step);
      if (onStage === undefined) return undefined;
      const last = runs.at(-1);
      if (last && last.first + last.count === onStage) runs[runs.length - 1] = { first: last.first, count: last.count + 1 };
      else runs.push({ first: onStage, count: 1 });
    }
    return runs;
  }
}
