/** What the clients of the test of churn ask, in turn. */
import { FAKE } from "../fakeModel.ts";

/** Of an answer. */
export const TOKENS = 24;
export const PROMPTS = 8;

export function promptOf(turn: number): readonly number[] {
  const prompt = turn % PROMPTS;
  return Array.from({ length: 5 + 4 * prompt }, (_, index) => (index * 7 + prompt * 13) % FAKE.vocabSize);
}
