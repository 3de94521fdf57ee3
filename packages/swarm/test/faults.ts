/**
 * Peers that are cut off, stall without dying, or answer nonsense, while somebody asks, between hosts of a network lab 20 ms apart: real processes, libp2p and WebRTC; only the model's
 * arithmetic is small. Every answer is what one device gives.
 */
import assert from "node:assert/strict";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { ChurnLab, type ChurnLine } from "./churnLab.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { TOKENS, promptOf } from "./hosts/churnPrompts.ts";

/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
const HOSTS = ["a", "b", "c", "d"] as const;

export const FAULTS: GpuTest = {
  name: "a peer that is cut off, one that stalls and one that answers nonsense are replaced by name, and no answer is altered",
  run: async () => {
    const lab = await ChurnLab.up([...HOSTS, "client"], CABLE);
    try {
      await askThroughFaults(lab);
    } finally {
      lab.down();
    }
  },
};

async function askThroughFaults(lab: ChurnLab): Promise<void> {
  const peers = await Promise.all(HOSTS.map((host) => lab.peer(host, { begin: 0, end: FAKE.nLayers })));
  const client = lab.client("client");
  /** Reads on until an answer is there whose path is none but these peers. @returns that peer, and what was replaced until then */
  const answered = async (but: readonly string[]) => {
    const faults: ChurnLine[] = [];
    for (;;) {
      const line = await client.next();
      assert.equal(line.failed, undefined);
      if (line.fault !== undefined) faults.push(line);
      const { turn, ids, path } = line;
      if (turn === undefined || !ids || !path) continue;
      assert.deepEqual(ids, await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(turn), TOKENS));
      const used = peers.find(({ id }) => path.length === 1 && path[0] === id);
      if (used && !but.includes(used.id)) return { used, faults };
    }
  };
  const gone: string[] = [];
  let { used } = await answered([]);
  for (const [what, fault] of [
    ["cut off", "lost"],
    ["stalls", "stalled"],
    ["nan", "lied"],
  ] as const) {
    if (what === "cut off") lab.net.plug(used.host, false);
    else used.child.stdin?.write(`${what}\n`);
    gone.push(used.id);
    const then = await answered(gone);
    assert.deepEqual(
      then.faults.filter(({ peer }) => peer === used.id).map((line) => line.fault),
      [fault],
      `${what}: ${JSON.stringify(then.faults)}`,
    );
    ({ used } = then);
  }
  client.stop();
}
