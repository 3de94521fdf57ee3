import { describe, expect, test } from "vitest";
import { Auditor } from "../src/pipeline/audit.ts";
import type { ObservedStep } from "../src/pipeline/step.ts";
import type { Hop } from "../src/plan/path.ts";
import { FAKE, FakeStage, forwardTold } from "./fakeModel.ts";

const INPUTS = [{ tokens: [1, 2, 3, 4] }, { tokens: [5] }];

function setUp(names: readonly string[], liars: readonly string[], layers = { begin: 0, end: 3 }) {
  const stages = new Map(names.map((name) => [name, new FakeStage(layers)]));
  for (const name of liars) {
    const stage = stages.get(name);
    if (stage) stage.fault = "lies";
  }
  const convicted: string[] = [];
  const auditor = new Auditor({
    ...FAKE,
    others: () => names.map((peer): Hop => ({ peer, layers })),
    open: async ({ peer }) => {
      const stage = stages.get(peer);
      if (!stage) throw new Error("gone");
      return {
        stage,
        forwardDrafted: () => Promise.reject(new Error("not here")),
        forwardTold: (batch) => forwardTold(stage, batch),
        lost: new Promise(() => {}),
        close: () => {},
      };
    },
    onLiar: (peer) => convicted.push(peer),
    share: 1,
  });
  return { stages, auditor, convicted };
}

async function stepOf(stage: FakeStage, peer: string, change: (row: Float32Array<ArrayBuffer>) => void = () => {}): Promise<ObservedStep> {
  const sequence = await stage.open();
  let hidden = new Float32Array();
  for (const { tokens } of INPUTS) ({ hidden = hidden } = await stage.forward({ entries: [{ sequence, tokens }], output: "hidden" }));
  change(hidden);
  return { hop: { peer, layers: stage.layers }, inputs: INPUTS, hidden };
}

describe("audits", () => {
  test("an honest peer is found to agree, also where its numbers differ in the last digits, and leaves nothing open", async () => {
    const { auditor, convicted, stages } = setUp(["a", "b", "c"], []);
    const step = await stepOf(new FakeStage({ begin: 0, end: 3 }), "a", (row) =>
      row.forEach((value, index) => (row[index] = value * 1.0005)),
    );
    expect(await auditor.audit(step)).toEqual({ peer: "a", verdict: "agrees" });
    expect(convicted).toEqual([]);
    expect([...stages.values()].map(({ openSequences }) => openSequences)).toEqual([0, 0, 0]);
  });

  test("a liar is convicted by two others, whichever of the three it is", async () => {
    const lie = (row: Float32Array): void => void (row[3] = (row[3] ?? 0) + 0.3);
    const honest = new FakeStage({ begin: 0, end: 3 });
    const first = setUp(["a", "b", "c"], []);
    expect(await first.auditor.audit(await stepOf(honest, "a", lie))).toEqual({ peer: "a", verdict: "lies" });
    expect(first.convicted).toEqual(["a"]);
    const second = setUp(["a", "b", "c"], ["b"]);
    expect(await second.auditor.audit(await stepOf(honest, "a"))).toEqual({ peer: "a", verdict: "agrees" });
    expect(second.convicted).toEqual(["b"]);
  });

  test("nobody is convicted by one other alone, nor where all three differ", async () => {
    const lie = (row: Float32Array): void => void (row[3] = (row[3] ?? 0) + 0.3);
    const honest = new FakeStage({ begin: 0, end: 3 });
    const two = setUp(["a", "b"], []);
    expect((await two.auditor.audit(await stepOf(honest, "a", lie))).verdict).toBe("undecided");
    const three = setUp(["a", "b", "c"], ["b"]);
    expect((await three.auditor.audit(await stepOf(honest, "a", lie))).verdict).toBe("undecided");
    const alone = setUp(["a"], []);
    expect((await alone.auditor.audit(await stepOf(honest, "a", lie))).verdict).toBe("no second");
    expect([...two.convicted, ...three.convicted, ...alone.convicted]).toEqual([]);
  });

  test("a peer that is gone is not on trial: the next one is asked", async () => {
    const { auditor, stages, convicted } = setUp(["a", "b", "c", "d"], []);
    stages.delete("b");
    const lie = (row: Float32Array): void => void (row[0] = (row[0] ?? 0) + 1);
    expect((await auditor.audit(await stepOf(new FakeStage({ begin: 0, end: 3 }), "a", lie))).verdict).toBe("lies");
    expect(convicted).toEqual(["a"]);
  });

  test("of the last stage the token is looked at, and one that is not the likeliest convicts", async () => {
    const layers = { begin: 3, end: 6 };
    const { auditor, convicted } = setUp(["a", "b", "c"], [], layers);
    const inputs = [{ tokens: [0, 0], hidden: Float32Array.from({ length: 16 }, (_, index) => Math.sin(index)) }];
    const stage = new FakeStage(layers);
    const sequence = await stage.open();
    const { step } = await stage.forward({
      entries: [{ sequence, tokens: [0, 0], hidden: inputs[0]?.hidden ?? new Float32Array() }],
      output: "sample",
    });
    const [[token = 0] = []] = await stage.sampled(step, 1);
    expect((await auditor.audit({ hop: { peer: "a", layers }, inputs, token })).verdict).toBe("agrees");
    expect((await auditor.audit({ hop: { peer: "a", layers }, inputs, token: (token + 1) % FAKE.vocabSize })).verdict).toBe("lies");
    expect(convicted).toEqual(["a"]);
  });
});
