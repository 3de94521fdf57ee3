/**
 * A conversation over a bad network: 2 % of packets lost on the way between two hosts, round trips of 50 ms with up to 20 ms of jitter; and the same without loss and jitter, for how
 * much slower it was.
 */
import assert from "node:assert/strict";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { ChurnLab } from "./churnLab.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { TOKENS, promptOf } from "./hosts/churnPrompts.ts";
import type { HostOptions } from "./netlab/netlab.ts";

/** A quarter of a round trip each way; two cables make a way. */
const SOUND = { delayMs: 12.5 } as const;
const BAD = { ...SOUND, delayMs: 10, jitterMs: 5, lossPermille: 10 } as const;
const ANSWERS = 10;

export const LOSSY_NETWORK: GpuTest = {
  name: "2 % loss and 50 ms of jittered latency: every answer is what one device gives",
  run: async () => {
    const badMs = await tokenMs(BAD, ANSWERS);
    const soundMs = await tokenMs(SOUND, ANSWERS);
    console.log(
      `# ${badMs.toFixed(0)} ms a token over two peers, ${soundMs.toFixed(0)} without loss: ${(badMs / soundMs).toFixed(2)} times`,
    );
  },
};

/** Of one client's answers over two peers, each of which is checked. */
async function tokenMs(cable: Omit<HostOptions, "name">, answers: number): Promise<number> {
  const lab = await ChurnLab.up(["a", "b", "client"], cable);
  try {
    const half = FAKE.nLayers / 2;
    await Promise.all([lab.peer("a", { begin: 0, end: half }), lab.peer("b", { begin: half, end: FAKE.nLayers })]);
    const client = lab.client("client");
    let began = Number.NaN;
    for (let got = 0; got <= answers;) {
      const { turn, ids, failed } = await client.next();
      assert.equal(failed, undefined);
      if (!ids || turn === undefined) continue;
      assert.deepEqual(ids, await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(turn), TOKENS));
      // From the end of the first on: that one had to connect.
      if (got++ === 0) began = performance.now();
    }
    return (performance.now() - began) / (answers * (TOKENS + 1));
  } finally {
    lab.down();
  }
}
