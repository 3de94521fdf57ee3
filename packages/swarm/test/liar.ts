/**
 * A peer whose numbers are wrong and look right, between hosts of a network lab 20 ms apart: real processes, libp2p and WebRTC; only the model's arithmetic is small. The client that has some of
 * its steps computed again finds it among three with the same layers, bans it and nobody else, and goes on over another.
 */
import assert from "node:assert/strict";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { ChurnLab } from "./churnLab.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { TOKENS, promptOf } from "./hosts/churnPrompts.ts";

/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
const TWINS = ["a", "b", "c"] as const;
/** A hundred times the usual: the test shall not take a hundred times as long. */
const AUDIT_SHARE = 0.2;
/** Answers that a liar may spoil, and those after it that must be right. */
const PATIENCE = 20;
const ANSWERS_AFTER = 5;

export const LIAR: GpuTest = {
  name: "a peer that answers wrongly but plausibly is found by audits and banned, and nobody else is; answers after that are what one device gives",
  run: async () => {
    const lab = await ChurnLab.up([...TWINS, "last", "client"], CABLE);
    try {
      await findLiar(lab);
    } finally {
      lab.down();
    }
  },
};

async function findLiar(lab: ChurnLab): Promise<void> {
  const half = FAKE.nLayers / 2;
  const [last, ...twins] = await Promise.all([
    lab.peer("last", { begin: half, end: FAKE.nLayers }),
    ...TWINS.map((host) => lab.peer(host, { begin: 0, end: half })),
  ]);
  const client = lab.client("client", AUDIT_SHARE);
  const banned: string[] = [];
  const answered = async () => {
    for (;;) {
      const { failed, liar, turn, ids, path } = await client.next();
      assert.equal(failed, undefined);
      if (liar !== undefined) banned.push(liar);
      if (turn === undefined || !ids || !path) continue;
      const expected = await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(turn), TOKENS);
      return { path, isRight: JSON.stringify(ids) === JSON.stringify(expected) };
    }
  };
  const first = await answered();
  assert.ok(first.isRight);
  assert.equal(first.path[1], last.id);
  const liar = twins.find(({ id }) => id === first.path[0]);
  if (!liar) throw new Error(`Nobody of those with the first layers answered, but ${first.path.join()}`);
  liar.child.stdin?.write("lies\n");
  let spoilt = 0;
  for (let asked = 0; banned.length === 0; asked++) {
    assert.ok(asked < PATIENCE, `the liar was not found in ${PATIENCE} answers`);
    if (!(await answered()).isRight) spoilt++;
  }
  assert.deepEqual(banned, [liar.id]);
  // The one during which it was found may still be the liar's.
  await answered();
  for (let after = 0; after < ANSWERS_AFTER; after++) {
    const { path, isRight } = await answered();
    assert.ok(isRight, "an answer after the ban is altered");
    assert.ok(!path.includes(liar.id));
  }
  assert.deepEqual(banned, [liar.id]);
  console.log(`# found while ${spoilt} answers were altered`);
  client.stop();
}
