/** What a drafting step made for each of its streams. The ids are on the device and are read when somebody needs them, once. */
import type { Stage } from "@shoal/model";

export class MadeDrafts {
  /** For each stream. */
  readonly count: number;
  readonly #stage: Stage;
  readonly #step: number;
  #reading: Promise<void> | undefined;
  /** By number of the draft, by stream. */
  #ids: readonly (readonly number[])[] | undefined;

  /** @param step of the first drafts; further ones are steps of their own behind it */
  constructor(stage: Stage, step: number, count: number) {
    this.#stage = stage;
    this.#step = step;
    this.count = count;
  }

  /** Whether the ids are here. */
  get known(): boolean {
    return this.#ids !== undefined;
  }

  read(): Promise<void> {
    this.#reading ??= this.#stage.drafted(this.#step, this.count).then((ids) => void (this.#ids = ids));
    return this.#reading;
  }

  /** The stream's drafts, one after the other; none before they were read. */
  of(stream: number): readonly number[] {
    return (this.#ids ?? []).flatMap((ids) => ids[stream] ?? []);
  }
}

/** A stream's drafts. */
export interface StreamDrafts {
  readonly made: MadeDrafts;
  /** Its place among the streams of that step. */
  readonly stream: number;
}
