/** The lines of one client's use of a stage, and what its steps take from the one and give to the other. */
import type { z } from "zod";
import { ClusterError } from "../errors.ts";
import { splitRows } from "../pipeline/joined.ts";
import { Tensor } from "../wire/tensor.ts";
import { HandInlet, HandOutlet, type Lines } from "./handing.ts";
import { type StepBody, entryRows } from "./messages.ts";
import type * as schemas from "./schemas.ts";

type WireBatch = z.infer<typeof schemas.batch>;
type WireHanding = z.infer<typeof schemas.handing>;

/** A step's answer as it travels. */
export interface ToldBody {
  readonly output: StepBody;
  readonly tokens: readonly number[];
}

export class HandedSteps {
  readonly #lines: Lines | undefined;
  #inlet: HandInlet | undefined;
  #outlet: HandOutlet | undefined;

  constructor(lines: Lines | undefined) {
    this.#lines = lines;
  }

  /** @returns where to connect to @throws ClusterError named refused where there are no lines, and what listening throws */
  async listenFor(peer: string): Promise<string> {
    const { address, channel, close } = await this.#needLines().listen();
    this.#inlet?.close();
    this.#inlet = new HandInlet(peer, channel, close);
    return address;
  }

  async handTo(address: string): Promise<void> {
    const channel = await this.#needLines().connect(address);
    this.#outlet?.close();
    this.#outlet = new HandOutlet(channel);
  }

  /** Steps that wait for their input fail; so does whoever waits for theirs. */
  end(): void {
    this.#inlet?.close();
    this.#outlet?.close();
    this.#inlet = undefined;
    this.#outlet = undefined;
  }

  /** What a step waits for; undefined for nothing. @throws ClusterError named refused where there is no line that it could come by, or go on by */
  input({ take = -1, after = -1, give }: WireHanding): (() => Promise<void>) | undefined {
    if (give && !this.#outlet) throw new ClusterError("refused", "Cannot hand anything on: there is no line");
    const number = Math.max(take, after);
    if (number < 0) return undefined;
    const inlet = this.#needInlet();
    return () => inlet.until(number);
  }

  /** The batch with its hidden states and tokens, which have come. @throws ClusterError bad-frame where they are not as the batch needs them */
  filled(batch: WireBatch, { take, after }: WireHanding): WireBatch {
    let { entries } = batch;
    if (after !== undefined) {
      const inlet = this.#needInlet();
      entries = entries.map((entry) => (entry.tokens === "sampled" ? { ...entry, tokens: [inlet.token(entry.sequence)] } : entry));
    }
    if (take !== undefined) {
      const counts = entries.map(({ tokens, verify = 0 }) => entryRows({ tokens, verify }));
      const rows = splitRows(
        this.#needInlet().take(
          take,
          counts.reduce((sum, count) => sum + count, 0),
        ),
        counts,
      );
      entries = entries.map((entry, index) => {
        const hidden = rows[index]?.hidden;
        return hidden ? { ...entry, hidden: new Tensor(hidden, [counts[index] ?? 0, hidden.length / (counts[index] ?? 1)]) } : entry;
      });
    }
    return { ...batch, entries };
  }

  /** Hands on what a step gives, or why it gives nothing, after what the steps before it gave. @returns the step's answer without what was handed on */
  async passOn<B extends ToldBody>(running: Promise<B>, { give }: WireHanding): Promise<B> {
    if (!give || !this.#outlet) return running;
    const what = running.then(({ output: { hidden }, tokens }) =>
      give.tokens
        ? { tokens: give.tokens.map(({ sequence, place }): [number, number] => [sequence, tokens[place] ?? 0]) }
        : { ...(hidden && { hidden }) },
    );
    await this.#outlet.hand(give.number, what);
    const told = await running;
    const { hidden: _, ...output } = told.output;
    return { ...told, output };
  }

  #needLines(): Lines {
    if (!this.#lines) throw new ClusterError("refused", "Cannot connect stages: this one has no way to others");
    return this.#lines;
  }

  #needInlet(): HandInlet {
    if (!this.#inlet) throw new ClusterError("refused", "Cannot take anything from another stage: there is no line");
    return this.#inlet;
  }
}
