/** What a peer that offers to hold experts answers to whoever asks wrongly, and what is taken from peers' words about it. */
import { Caller, Tensor, memoryChannel } from "@shoal/cluster";
import type { ExpertCall, ExpertShard } from "@shoal/model";
import { expect, test } from "vitest";
import { announcementSchema } from "../src/control/announcement.ts";
import { newIdentity } from "../src/control/identity.ts";
import { Helper } from "../src/experts/helper.ts";
import { serveHelp } from "../src/experts/helperPort.ts";
import { HELP_TARGET, type HeldExperts, SHARD_TARGET } from "../src/experts/messages.ts";
import { linkChannel } from "../src/link/linkChannel.ts";
import { memoryLanes } from "../src/link/memoryLane.ts";
import { StripedLink } from "../src/link/stripedLink.ts";
import { SimulatedClock } from "./simulatedClock.ts";
import { MODEL, serving } from "./swarmFixture.ts";

const SHARD: ExpertShard = {
  describe: async () => ({ experts: [], hiddenSize: 4, maxTokens: 8, memory: {} }),
  run: async ({ x }) => x,
  destroy: () => Promise.reject(new Error("nobody may")),
};
const HOLD = { layers: { begin: 3, end: 5 }, begin: 10, end: 20, maxTokens: 8 };

function helper() {
  const [near, far] = memoryChannel();
  const held: HeldExperts[] = [];
  serveHelp({
    channel: far,
    offer: ({ begin, end }) => ({ memoryBytes: 100, alone: end - begin, bytesPerSecond: 1e9, readbackMs: 1 }),
    hold: async (wanted) => {
      held.push(wanted);
      if (wanted.begin === 0) throw new Error("not these");
      return SHARD;
    },
  });
  return { caller: new Caller(near, { peer: "the helper" }), held };
}

test("a helper offers, holds what it is asked to, and computes with that alone", async () => {
  const { caller, held } = helper();
  expect(await caller.call(HELP_TARGET, "offer", { gap: { begin: 2, end: 6 } })).toMatchObject({ memoryBytes: 100, alone: 4 });
  expect(await caller.call(HELP_TARGET, "probe", { padding: new Tensor(new Float32Array(8)) })).toBeNull();
  await expect(caller.call(SHARD_TARGET, "describe", null)).rejects.toThrow("no experts are held");
  await caller.call(HELP_TARGET, "hold", HOLD);
  expect(await caller.call(SHARD_TARGET, "describe", null)).toMatchObject({ maxTokens: 8 });
  await expect(caller.call(HELP_TARGET, "hold", { ...HOLD, begin: 0 })).rejects.toThrow("not these");
  // In place of those before.
  await expect(caller.call(SHARD_TARGET, "describe", null)).rejects.toThrow("not these");
  expect(held).toHaveLength(2);
});

test("a helper refuses what is no call of its, and nonsense, before anything is loaded", async () => {
  const { caller, held } = helper();
  for (const [method, body] of [
    ["offer", { gap: { begin: 6, end: 2 } }],
    ["offer", {}],
    ["probe", { padding: 5 }],
    ["hold", { ...HOLD, end: 10 }],
    ["hold", { ...HOLD, end: 1e9 }],
    ["hold", { ...HOLD, maxTokens: 1e6 }],
    ["hold", { ...HOLD, layers: { begin: 5, end: 5 } }],
    ["destroy", null],
  ] as const)
    await expect(caller.call(HELP_TARGET, method, body)).rejects.toMatchObject({ name: "ClusterError" });
  await caller.call(HELP_TARGET, "hold", HOLD);
  await expect(caller.call(SHARD_TARGET, "destroy", null)).rejects.toMatchObject({ name: "ClusterError", code: "refused" });
  await expect(caller.call(7, "run", null)).rejects.toMatchObject({ name: "ClusterError", code: "refused" });
  expect(held).toHaveLength(1);
});

test("an announcement says who has experts, within bounds, and holds no layers where nobody can use them", async () => {
  const { id: peer } = await newIdentity();
  const { id: other } = await newIdentity();
  const said = { ...serving(2, 5), peer, model: MODEL, number: 1, rtts: {} };
  const experts = { layers: { begin: 2, end: 5 }, own: 4, helpers: [{ peer: other, begin: 4, end: 32 }], wanted: true };
  const isRead = (announcement: unknown): boolean => announcementSchema.safeParse(announcement).success;
  expect(isRead({ ...said, experts })).toBe(true);
  expect(isRead({ ...said, layers: null, state: "waiting", experts: { ...experts, layers: null } })).toBe(true);
  expect(isRead({ ...said, layers: null, state: "helping" })).toBe(true);
  expect(isRead({ ...said, state: "helping" })).toBe(false);
  expect(isRead({ ...said, layers: null, experts })).toBe(false);
  expect(isRead({ ...said, experts: { ...experts, own: -1 } })).toBe(false);
  expect(isRead({ ...said, experts: { ...experts, helpers: [{ peer: other, begin: 4, end: 4 }] } })).toBe(false);
  expect(isRead({ ...said, experts: { ...experts, helpers: [{ peer: "somebody", begin: 4, end: 5 }] } })).toBe(false);
  expect(isRead({ ...said, experts: { ...experts, helpers: Array.from({ length: 33 }, () => experts.helpers[0]) } })).toBe(false);
});

const CALL: ExpertCall = {
  layer: 3,
  tokens: 1,
  slots: 2,
  x: Float32Array.of(1, 2, 3, 4),
  experts: Uint32Array.of(10, 11),
  weights: Float32Array.of(1, 1),
};

/** Both ends of a link, 0.2 ms there and back. */
async function linked(shard: ExpertShard) {
  const clock = new SimulatedClock();
  const [near, far] = memoryLanes({ clock, delayMs: () => 0.1 });
  const mine = new StripedLink({ remote: "the helper", clock });
  const theirs = new StripedLink({ remote: "the stage", clock });
  mine.addLane(near);
  theirs.addLane(far);
  serveHelp({
    channel: linkChannel(theirs),
    offer: () => ({ memoryBytes: 100, alone: 0, bytesPerSecond: 1e9, readbackMs: 1 }),
    hold: async () => shard,
  });
  const lies: string[] = [];
  const helper = new Helper({ link: mine, clock, hiddenSize: 4, slots: 2, onLie: (peer) => lies.push(peer) });
  await clock.until(helper.ask({ begin: 3, end: 5 }), 1000);
  expect(helper.offer).toBeUndefined();
  await clock.advance(2000);
  await clock.until(helper.hold(HOLD), 1000);
  return { clock, helper, near, lies };
}

test("a helper's link is measured before its offer counts, and its sums are the shard's", async () => {
  const { clock, helper } = await linked(SHARD);
  expect(helper.offer).toMatchObject({ peer: "the helper", memoryBytes: 100 });
  expect(helper.offer?.rttMs).toBeCloseTo(0.2, 5);
  expect(helper.held).toEqual(HOLD);
  expect([...(await clock.until(helper.run(CALL), 1000))]).toEqual([1, 2, 3, 4]);
});

test("a helper that falls silent, or does not answer though its link lives, or gives rows of another shape, is lost", async () => {
  const never: ExpertShard = { ...SHARD, run: () => new Promise(() => {}) };
  const cable = await linked(never);
  const silent = cable.helper.run(CALL);
  silent.catch(() => undefined);
  cable.near.cut();
  await expect(cable.clock.until(silent, 8000)).rejects.toMatchObject({ name: "PeerLostError" });

  const stalled = await linked(never);
  const waiting = stalled.helper.run(CALL);
  waiting.catch(() => undefined);
  await expect(stalled.clock.until(waiting, 70_000)).rejects.toMatchObject({ name: "PeerLostError" });

  const short = await linked({ ...SHARD, run: async ({ x }) => x.subarray(1) });
  await expect(short.clock.until(short.helper.run(CALL), 1000)).rejects.toThrow();
  await short.clock.until(short.helper.lost, 1000);

  const lying = await linked({ ...SHARD, run: async ({ x }) => x.map(() => Number.NaN) });
  await expect(lying.clock.until(lying.helper.run(CALL), 1000)).rejects.toThrow("not all numbers");
  expect(lying.lies).toEqual(["the helper"]);
});
