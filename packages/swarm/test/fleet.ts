/** Peers of tests and a stage over them, on a clock of the test's own. */
import type { Fault } from "../src/pipeline/hop.ts";
import { SwarmStage, type SwarmStageOptions } from "../src/pipeline/swarmStage.ts";
import { choosePath } from "../src/plan/path.ts";
import { gaps } from "../src/plan/range.ts";
import { FAKE } from "./fakeModel.ts";
import type { FakePeer } from "./fakePeer.ts";
import { SimulatedClock } from "./simulatedClock.ts";

export interface Fleet {
  readonly peers: FakePeer[];
  readonly faults: { readonly peer: string; readonly fault: Fault }[];
  readonly clock: SimulatedClock;
  readonly stage: SwarmStage;
}

export async function fleetOf(peers: FakePeer[], more: Partial<SwarmStageOptions> = {}): Promise<Fleet> {
  const faults: { peer: string; fault: Fault }[] = [];
  const clock = new SimulatedClock();
  const stage = await SwarmStage.open({
    ...FAKE,
    clock,
    plan: (question) =>
      choosePath({
        nLayers: FAKE.nLayers,
        peers: peers.filter(({ dead }) => !dead).map(({ known }) => known),
        rttMs: () => 10,
        ...question,
      }),
    missing: ({ layers, without }) => {
      const held = peers.filter(({ dead, known }) => !dead && !without.has(known.peer)).flatMap(({ known }) => known.layers ?? []);
      return gaps(
        layers.end,
        [{ begin: 0, end: layers.begin }, ...held].filter(({ begin, end }) => begin < end),
      );
    },
    open: async ({ peer }) => {
      const found = peers.find(({ known }) => known.peer === peer);
      if (!found) throw new Error("no such peer");
      return found.opened();
    },
    isLeaving: (peer) => peers.some(({ known }) => known.peer === peer && known.state === "leaving"),
    onFault: (peer, fault) => faults.push({ peer, fault }),
    ...more,
  });
  return { peers, faults, clock, stage };
}
