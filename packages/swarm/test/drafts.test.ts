/** Drafts over a path: the last stage makes them in the step in which it chooses, and whatever they are, what comes out is what would without. */
import { describe, expect, test } from "vitest";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import { choosePath } from "../src/plan/path.ts";
import { draftedAnswers } from "./draftedAnswers.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { type FakeNetwork, FakePeer } from "./fakePeer.ts";

const PROMPT = Array.from({ length: 20 }, (_, index) => (index * 31) % FAKE.vocabSize);
const TOKENS = 40;
const whole = (): FakeStage => new FakeStage({ begin: 0, end: FAKE.nLayers });
const solo = (prompt = PROMPT, count = TOKENS) => answer(whole(), prompt, count);

/** Right but for every third. */
function guesser(text: readonly number[], every = 3): (position: number) => number {
  return (position) => ((text[position] ?? 0) + (position % every === 0 ? 1 : 0)) % FAKE.vocabSize;
}

async function pathOf(peers: readonly FakePeer[], pushes: boolean): Promise<SwarmStage> {
  const network: FakeNetwork = new Map();
  if (pushes) for (const peer of peers) peer.join(network);
  const stage = await SwarmStage.open({
    ...FAKE,
    plan: (question) =>
      choosePath({
        nLayers: FAKE.nLayers,
        peers: peers.filter(({ dead }) => !dead).map(({ known }) => known),
        rttMs: () => 10,
        ...question,
      }),
    missing: () => [],
    open: async ({ peer }) => {
      const found = peers.find(({ name }) => name === peer);
      if (!found) throw new Error("no such peer");
      return found.opened();
    },
  });
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  return stage;
}

describe.each([
  ["by way of the client", false],
  ["from stage to stage", true],
] as const)("drafts over a path, %s", (_, pushes) => {
  test.each([1, 2, 3])("%i a step: the same tokens in fewer steps", async (drafts) => {
    const expected = await solo();
    const [a, b] = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    b.stage.oracle = guesser([...PROMPT, ...expected]);
    const stage = await pathOf([a, b], pushes);
    expect(await stage.describe()).toMatchObject({ hasMtp: true, maxDrafts: 3, chainsDrafts: false });
    const { ids, steps } = await draftedAnswers(stage, [PROMPT], TOKENS, drafts);
    expect(ids).toEqual([expected]);
    // The first drafts are made up; after that two of three are right.
    expect(steps).toBeLessThanOrEqual(drafts === 1 ? 26 : 21);
    await stage.destroy();
  });

  test("drafts that are all wrong change nothing", async () => {
    const [a, b] = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    const expected = await solo();
    b.stage.oracle = guesser([...PROMPT, ...expected], 1);
    const stage = await pathOf([a, b], pushes);
    expect((await draftedAnswers(stage, [PROMPT], TOKENS, 2)).ids).toEqual([expected]);
    await stage.destroy();
  });

  test.each(["a", "b"])(
    "stage '%s' is lost in the middle of drafts: its successor goes on, with an MTP module or without",
    async (victim) => {
      for (const successorDrafts of [true, false]) {
        const expected = await solo();
        const peers = [new FakePeer("a", 0, 3, 1), new FakePeer("b", 3, 6, 1), new FakePeer("a2", 0, 3, 50), new FakePeer("b2", 3, 6, 50)];
        for (const { name, stage } of peers)
          if (name === "b" || (name === "b2" && successorDrafts)) stage.oracle = guesser([...PROMPT, ...expected]);
        const stage = await pathOf(peers, pushes);
        const { ids } = await draftedAnswers(stage, [PROMPT], TOKENS, 2, (so) => {
          if (so.length > 15) peers.find(({ name }) => name === victim)?.kill();
        });
        expect(ids).toEqual([expected]);
        expect(stage.replaced).toBe(1);
        await stage.destroy();
      }
    },
  );

  test("a successor of all layers verifies a token after the other", async () => {
    const expected = await solo();
    const peers = [new FakePeer("a", 0, 3, 1), new FakePeer("b", 3, 6, 1), new FakePeer("all", 0, 6, 500)];
    for (const peer of peers.slice(1)) peer.stage.oracle = guesser([...PROMPT, ...expected]);
    const stage = await pathOf(peers, pushes);
    const { ids } = await draftedAnswers(stage, [PROMPT], TOKENS, 2, (so) => {
      if (so.length > 15) peers[1]?.kill();
    });
    expect(ids).toEqual([expected]);
    expect(stage.path.map(({ peer }) => peer)).toEqual(["all"]);
    await stage.destroy();
  });

  test("several sequences in the same steps, while others use the stage: each gets its own", async () => {
    const prompts = [0, 1, 2].map((n) => PROMPT.map((id) => (id + n) % FAKE.vocabSize));
    const expected = await Promise.all(prompts.map((prompt) => solo(prompt)));
    const [a, b] = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    b.stage.oracle = guesser([...PROMPT, ...(expected[0] ?? [])], 5);
    const [stage, other] = [await pathOf([a, b], pushes), await pathOf([a, b], pushes)];
    const [{ ids }, ...others] = await Promise.all([
      draftedAnswers(stage, prompts, TOKENS, 2),
      answer(other, PROMPT, TOKENS),
      draftedAnswers(other, [PROMPT], TOKENS, 1),
    ]);
    expect(ids).toEqual(expected);
    expect(others).toMatchObject([expected[0], { ids: [expected[0]] }]);
    expect(b.stage.verified).toBeGreaterThan(TOKENS);
    await stage.destroy();
    await other.destroy();
  });
});
