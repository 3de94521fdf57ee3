/** Verifying and drafting, step after step, on any stage with an MTP module that is to be told its tokens. */
import assert from "node:assert/strict";
import type { SequenceSlot, Stage } from "@shoal/model";

export interface Drafted {
  readonly ids: readonly (readonly number[])[];
  /** That verified, or might have. */
  readonly steps: number;
}

interface Stream {
  readonly sequence: SequenceSlot;
  readonly ids: number[];
  length: number;
}

/** Greedy answers to several prompts in the same steps, as the engine does it: verify, draft, cut off. */
export async function draftedAnswers(
  stage: Stage,
  prompts: readonly (readonly number[])[],
  count: number,
  drafts: number,
  between: (ids: readonly number[]) => void | Promise<void> = () => {},
): Promise<Drafted> {
  const { maxTokens } = await stage.describe();
  const streams: Stream[] = [];
  for (const prompt of prompts) {
    const sequence = await stage.open();
    const ids: number[] = [];
    for (let at = 0; at < prompt.length; at += maxTokens) {
      const tokens = prompt.slice(at, at + maxTokens);
      const quiet = at + maxTokens < prompt.length;
      const { step } = await stage.forward({ entries: [{ sequence, tokens, quiet }], output: "sample" });
      const [own = []] = await stage.sampled(step, 1);
      ids.push(...own);
      const next = [...tokens.slice(1), ...(quiet ? prompt.slice(at + maxTokens, at + maxTokens + 1) : own)];
      await stage.draft({ entries: [{ sequence, tokens: next, quiet }], output: "sample", drafts });
    }
    streams.push({ sequence, ids, length: prompt.length });
  }
  let made: readonly (readonly number[])[] = [];
  let steps = 0;
  while (streams.some(({ ids }) => ids.length < count)) {
    const verify = steps === 0 ? 0 : drafts;
    const entries = streams.map(({ sequence, ids }) => ({ sequence, tokens: ids.slice(-1), verify }));
    const { step } = await stage.forward({ entries, output: "sample" });
    const [told = []] = await stage.sampled(step, 1);
    assert.equal(told.length, streams.length * (1 + verify));
    const rights = streams.map((stream, place) => {
      const own = told.slice(place * (1 + verify), (place + 1) * (1 + verify));
      let right = 0;
      while (right < verify && made[right]?.[place] === own[right]) right++;
      stream.ids.push(...own.slice(0, 1 + right));
      stream.length += 1 + right;
      return { own, right };
    });
    const next = streams.map(({ sequence }, place) => {
      const { own = [], right = 0 } = rights[place] ?? {};
      return place === streams.length - 1 ? { sequence, tokens: own.slice(0, 1 + right) } : { sequence, tokens: own, draftAfter: right };
    });
    const output = await stage.draft({ entries: next, output: "sample", drafts });
    made = await stage.drafted(output.step, drafts);
    for (const { sequence, length } of streams) await stage.truncate(sequence, length);
    steps++;
    await between(streams[0]?.ids ?? []);
  }
  for (const { sequence } of streams) await stage.close(sequence);
  return { ids: streams.map(({ ids }) => ids.slice(0, count)), steps };
}
