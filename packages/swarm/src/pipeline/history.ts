/** What a sequence's stages were given, by the layer at which each begins: from it a stage that is lost can be rebuilt elsewhere. */
import type { SamplingParameters, TokenHistory } from "@shoal/model";

/** One entry of one step. */
export interface StageInput {
  readonly tokens: readonly number[];
  /** [tokens, hiddenSize]; absent at the first layer. */
  readonly hidden?: Float32Array<ArrayBuffer>;
}

/** The least length that a sequence had since this was last set to infinity. */
export interface CutMark {
  length: number;
}

export class SequenceHistory {
  readonly #hiddenSize: number;
  readonly #inputs = new Map<number, StageInput[]>();
  readonly #marks = new Set<CutMark>();
  /** The last token that was chosen. */
  last: number | undefined;
  /** Chosen since `sampling` was set. */
  chosen: number[] = [];
  /** Whether an MTP module goes over it too. */
  drafts = false;
  sampling: { readonly parameters: SamplingParameters; readonly history?: TokenHistory } | undefined;

  constructor(hiddenSize: number) {
    this.#hiddenSize = hiddenSize;
  }

  /** How its tokens are chosen, with what has been chosen until now; undefined where nothing was said. */
  samplingSoFar(): { readonly parameters: SamplingParameters; readonly history: TokenHistory } | undefined {
    if (!this.sampling) return undefined;
    const { promptIds = [], generatedIds = [] } = this.sampling.history ?? {};
    return { parameters: this.sampling.parameters, history: { promptIds, generatedIds: [...generatedIds, ...this.chosen] } };
  }

  inputs(layer: number): readonly StageInput[] {
    return this.#inputs.get(layer) ?? [];
  }

  add(layer: number, input: StageInput): void {
    const inputs = this.#inputs.get(layer);
    if (inputs) inputs.push(input);
    else this.#inputs.set(layer, [input]);
  }

  /** A stage began there, and does not any more. */
  drop(layer: number): void {
    this.#inputs.delete(layer);
  }

  length(layer = 0): number {
    return this.inputs(layer).reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  bytes(): number {
    let sum = 0;
    for (const inputs of this.#inputs.values())
      for (const { tokens, hidden } of inputs) sum += 8 * tokens.length + (hidden?.byteLength ?? 0);
    return sum;
  }

  /** For whoever has a copy of something made of it: what it says is cut off, of any layer, is not what it was. */
  mark(): CutMark {
    const mark = { length: Number.POSITIVE_INFINITY };
    this.#marks.add(mark);
    return mark;
  }

  unmark(mark: CutMark): void {
    this.#marks.delete(mark);
  }

  /** At one layer, or at all. */
  truncate(length: number, only?: number): void {
    for (const mark of this.#marks) mark.length = Math.min(mark.length, length);
    for (const [layer, inputs] of this.#inputs) {
      if (only !== undefined && layer !== only) continue;
      let rest = length;
      const kept: StageInput[] = [];
      for (const { tokens, hidden } of inputs) {
        if (rest === 0) break;
        const count = Math.min(rest, tokens.length);
        rest -= count;
        kept.push({
          tokens: tokens.slice(0, count),
          ...(hidden && { hidden: count === tokens.length ? hidden : hidden.slice(0, count * this.#hiddenSize) }),
        });
      }
      this.#inputs.set(layer, kept);
    }
  }

  /** In pieces of at most so many tokens, for computing it again. */
  *pieces(layer: number, most: number): Generator<StageInput, void> {
    let tokens: number[] = [];
    let hidden: Float32Array[] = [];
    const piece = (): StageInput => {
      const made = { tokens, ...(hidden.length > 0 && { hidden: joined(hidden) }) };
      tokens = [];
      hidden = [];
      return made;
    };
    for (const input of this.inputs(layer))
      for (let at = 0; at < input.tokens.length;) {
        const count = Math.min(most - tokens.length, input.tokens.length - at);
        tokens.push(...input.tokens.slice(at, at + count));
        if (input.hidden) hidden.push(input.hidden.subarray(at * this.#hiddenSize, (at + count) * this.#hiddenSize));
        at += count;
        if (tokens.length === most) yield piece();
      }
    if (tokens.length > 0) yield piece();
  }
}

function joined(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
