/** Layers whose experts are on a peer near by, between peers in one thread: who takes which part, and what becomes of it when a helper is lost. Only the arithmetic is not a GPU's. */
import { fileURLToPath } from "node:url";
import { openCheckpoint } from "@shoal/checkpoint";
import { directoryFiles } from "@shoal/checkpoint/directory";
import { memoryChannel, serveStage } from "@shoal/cluster";
import { type Batch, type ExpertCall, type ExpertShard, NO_EXPERT, type StepOutput } from "@shoal/model";
import { tinyModelUrl } from "@shoal/tiny-model";
import { afterEach, expect, test } from "vitest";
import { type HeldExperts } from "../src/experts/messages.ts";
import { Contribution, type ContributionPhase } from "../src/member/contribution.ts";
import type { ElsewhereExperts, StageHost } from "../src/member/stageHost.ts";
import type { SwarmMember } from "../src/member/entry.ts";
import type { LayerRange } from "../src/plan/range.ts";
import { ChunkedFiles, filesSource } from "../src/weights/chunkedFiles.ts";
import { makeManifest } from "../src/weights/manifest.ts";
import { FakeStage } from "./fakeModel.ts";
import { type TestSwarm, testSwarm } from "./swarmFixture.ts";

const files = directoryFiles(fileURLToPath(tinyModelUrl));
const checkpoint = await openCheckpoint(files);
const named = await makeManifest("tiny", files, ["config.json"]);
const { hiddenSize, nActivatedExperts: SLOTS, nRoutedExperts } = checkpoint.config;
/** Two layers of six, or one and the head. */
const LARGE = 20e6;
/** Not one layer whole; without their experts three. */
const SMALL = 15.5e6;
const LAN_MS = 0.1;
const CITY_MS = 10;

/** An expert multiplies a row by its number, counted from 1. */
function experts(row: number, call: ExpertCall): number {
  let factor = 0;
  for (let slot = 0; slot < call.slots; slot++) {
    const expert = call.experts[row * call.slots + slot] ?? NO_EXPERT;
    if (expert !== NO_EXPERT) factor += (expert + 1) * (call.weights[row * call.slots + slot] ?? 0);
  }
  return factor;
}

class FakeShard implements ExpertShard {
  readonly held: HeldExperts;
  calls = 0;
  fault: "none" | "nan" = "none";

  constructor(held: HeldExperts) {
    this.held = held;
  }

  async describe() {
    return { experts: [], hiddenSize, maxTokens: this.held.maxTokens, memory: {} };
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    this.calls++;
    const { layers, begin, end } = this.held;
    expect(call.layer).toBeGreaterThanOrEqual(layers.begin);
    expect(call.layer).toBeLessThan(layers.end);
    for (const expert of call.experts) expect(expert === NO_EXPERT || (expert >= begin && expert < end)).toBe(true);
    return call.x.map((value, index) => (this.fault === "nan" ? Number.NaN : value * experts(Math.floor(index / hiddenSize), call)));
  }

  async destroy(): Promise<void> {}
}

/** Asks for experts in each step, as a stage on a device does, and finds out where a sum is wrong. */
class GivingStage extends FakeStage {
  readonly #elsewhere: ElsewhereExperts;

  constructor(layers: LayerRange, elsewhere: ElsewhereExperts) {
    super(layers);
    this.#elsewhere = elsewhere;
  }

  override async forward(batch: Batch): Promise<StepOutput> {
    const { own, shard } = this.#elsewhere;
    const count = nRoutedExperts - own;
    for (let layer = Math.max(1, this.layers.begin); layer < this.layers.end; layer++) {
      const tokens = 2;
      const named = Uint32Array.from({ length: tokens * SLOTS }, (_, pair) => own + ((pair * 7 + layer) % count));
      const x = Float32Array.from({ length: tokens * hiddenSize }, (_, index) => index % 13);
      const call = { layer, tokens, slots: SLOTS, x, experts: named, weights: new Float32Array(tokens * SLOTS).fill(0.25) };
      const sums = await shard.run(call);
      for (const [index, sum] of sums.entries())
        expect(sum).toBeCloseTo((x[index] ?? 0) * experts(Math.floor(index / hiddenSize), call), 3);
    }
    return super.forward(batch);
  }
}

interface Contributor {
  readonly contribution: Contribution;
  readonly phases: ContributionPhase[];
  readonly member: SwarmMember;
  readonly shards: FakeShard[];
  readonly stage: () => FakeStage | undefined;
  readonly serving: Promise<unknown>;
  readonly leave: AbortController;
  /** As when the machine loses power. */
  die(): Promise<void>;
}

const all: Contributor[] = [];
afterEach(async () => {
  for (const one of all.splice(0)) await one.die();
});

async function contributor(swarm: TestSwarm, memoryBytes: number): Promise<Contributor> {
  const { clock } = swarm;
  const own: { contribution?: Contribution } = {};
  const peers = await swarm.join({ onLink: (link, purpose) => void (purpose !== "chunks" && own.contribution?.use(link, purpose)) });
  const source = filesSource(files);
  const chunks = new ChunkedFiles({ manifest: named.manifest, sources: () => [source] });
  const member: SwarmMember = { peers, manifest: named, files: chunks, checkpoint, isWhole: true, close: () => peers.close() };
  let stage: FakeStage | undefined;
  const shards: FakeShard[] = [];
  const host: StageHost = {
    async load(layers, _sizes, _member, elsewhere) {
      stage = elsewhere ? new GivingStage(layers, elsewhere) : new FakeStage(layers);
    },
    async loadExperts(held) {
      const shard = new FakeShard(held);
      shards.push(shard);
      return shard;
    },
    measure: async () => ({ bytesPerSecond: 20e9, readbackMs: 0.2 }),
    async connect() {
      if (!stage) throw new Error("nothing is loaded");
      const [near, far] = memoryChannel();
      void serveStage(far, stage, { ownsStage: false });
      return near;
    },
    unload: async () => void (stage = undefined),
  };
  const phases: ContributionPhase[] = [];
  const made = new Contribution({
    member,
    host,
    memoryBytes,
    contextTokens: 512,
    maxSequences: 2,
    kind: "deno",
    clock,
    onPhase: (phase) => phases.push(phase),
  });
  own.contribution = made;
  const leave = new AbortController();
  const serving = made
    .take(leave.signal)
    .then(() => made.serve(leave.signal))
    .catch((error: unknown) => {
      if (!leave.signal.aborted) throw error;
    });
  const die = async (): Promise<void> => {
    leave.abort();
    await peers.close();
    for (let i = 0; i < 20; i++) await clock.advance(1000);
  };
  const one = { contribution: made, phases, member, shards, stage: () => stage, serving, leave, die };
  all.push(one);
  return one;
}

function last({ phases }: Contributor): ContributionPhase | undefined {
  return phases.at(-1);
}

/** Layers that peers say are served, as one of them hears. */
function servedLayers({ member }: Contributor): string[] {
  return member.peers.directory
    .peers()
    .flatMap(({ layers, state }) => (layers && state === "serving" ? [`${layers.begin}-${layers.end}`] : []))
    .sort();
}

async function until(swarm: TestSwarm, what: string, holds: () => boolean, ms = 60_000): Promise<void> {
  for (let at = 0; at < ms; at += 100) {
    if (holds()) return;
    await swarm.clock.advance(100);
  }
  throw new Error(`Not within ${ms} ms: ${what}`);
}

/** Layers 0 and 1 on a large peer, and small ones. */
async function shared(
  delayMs: number,
  small: number,
): Promise<{ readonly swarm: TestSwarm; readonly large: Contributor; readonly small: Contributor[] }> {
  const swarm = await testSwarm(() => delayMs);
  const large = await contributor(swarm, LARGE);
  await until(swarm, "the large peer serves", () => last(large)?.name === "serving");
  return { swarm, large, small: await Promise.all(Array.from({ length: small }, () => contributor(swarm, SMALL))) };
}

function partsOf(small: readonly Contributor[]) {
  const stage = small.find((one) => last(one)?.name === "serving");
  return { stage, helpers: small.filter((one) => last(one)?.name === "helping") };
}

/** A stage with a helper, and another that has loaded the same. */
async function sharedTwice() {
  const { swarm, small } = await shared(LAN_MS, 2);
  await until(swarm, "they share", () => partsOf(small).stage !== undefined);
  const { stage, helpers } = partsOf(small);
  const other = await contributor(swarm, SMALL);
  await until(swarm, "another helps", () => last(other)?.name === "helping");
  const [asked] = helpers;
  if (!stage || !asked) throw new Error("nobody helps");
  return { swarm, stage, asked, other };
}

async function step(stage: Contributor): Promise<StepOutput> {
  const made = stage.stage();
  if (!made) throw new Error("nothing is loaded");
  const sequence = await made.open();
  try {
    return await made.forward({ entries: [{ sequence, tokens: [1], hidden: new Float32Array(8) }], output: "hidden" });
  } finally {
    await made.close(sequence);
  }
}

test("on a LAN two peers that can hold no layer hold three, one their experts, and say so; a third keeps the same ready", async () => {
  const { swarm, large, small } = await shared(LAN_MS, 2);
  await until(swarm, "they share", () => partsOf(small).stage !== undefined);
  const { stage, helpers } = partsOf(small);
  const [helper] = helpers;
  if (!stage || !helper) throw new Error("nobody helps");
  expect(last(stage)).toMatchObject({ layers: { begin: 2, end: 5 }, helpers: [helper.member.peers.id] });
  expect(helper.shards.map(({ held }) => held)).toEqual([{ layers: { begin: 2, end: 5 }, begin: 0, end: 32, maxTokens: 256 }]);
  await until(swarm, "it is heard", () => servedLayers(large).length === 1);
  const { peers } = large.member;
  expect(peers.directory.get(stage.member.peers.id)?.experts).toEqual({
    layers: { begin: 2, end: 5 },
    own: 0,
    helpers: [{ peer: helper.member.peers.id, begin: 0, end: 32 }],
    wanted: true,
  });
  expect(peers.directory.get(helper.member.peers.id)).toMatchObject({ state: "helping", layers: null });
  // A peer that can hold the rest whole does so.
  const rest = await contributor(swarm, LARGE);
  await until(swarm, "the rest is served", () => last(rest)?.name === "serving");
  expect(last(rest)).toMatchObject({ layers: { begin: 5, end: 6 } });
  const third = await contributor(swarm, SMALL);
  await until(swarm, "a third helps", () => last(third)?.name === "helping");
  await until(swarm, "nobody else is wanted", () => peers.directory.get(stage.member.peers.id)?.experts?.wanted === false);
}, 60_000);

test("20 ms apart the same peers share nothing, and wait", async () => {
  const { swarm, large, small } = await shared(CITY_MS, 2);
  for (let i = 0; i < 40; i++) await swarm.clock.advance(1000);
  for (const one of small) {
    expect(last(one)).toMatchObject({ name: "waiting" });
    expect(one.shards).toEqual([]);
  }
  expect(small.map((one) => JSON.stringify(last(one))).join()).toMatch(/20\.0 ms away/);
  for (const { member } of small)
    expect(large.member.peers.directory.get(member.peers.id)).toMatchObject({ state: "waiting", layers: null });
}, 60_000);

test("one that is quicker with layers of its own takes them, though a peer near by waits for help", async () => {
  const { swarm, small } = await shared(LAN_MS, 1);
  const [waiter] = small;
  if (!waiter) throw new Error("there is nobody");
  await until(swarm, "it waits", () => last(waiter)?.name === "waiting");
  const other = await contributor(swarm, LARGE);
  await until(swarm, "it serves", () => last(other)?.name === "serving");
  expect(last(other)).toMatchObject({ layers: { begin: 2, end: 3 } });
  expect(other.shards).toEqual([]);
  expect(last(waiter)?.name).toBe("waiting");
}, 60_000);

test("a helper that is lost in the middle is replaced by the other that has the same experts, without a step failing", async () => {
  const { swarm, stage, asked, other } = await sharedTwice();
  expect(other.shards[0]?.calls).toBe(0);
  const running = step(stage);
  const died = asked.die();
  await swarm.clock.until(running, 60_000);
  await died;
  expect(other.shards[0]?.calls).toBeGreaterThan(0);
  await swarm.clock.until(step(stage), 60_000);
}, 60_000);

test("a helper whose sums are no numbers is banned, and the other asked", async () => {
  const { swarm, stage, asked, other } = await sharedTwice();
  const [shard] = asked.shards;
  if (shard) shard.fault = "nan";
  await swarm.clock.until(step(stage), 60_000);
  expect(stage.member.peers.directory.isBanned(asked.member.peers.id)).toBe(true);
  expect(stage.member.peers.directory.isBanned(other.member.peers.id)).toBe(false);
}, 60_000);

test("a helper that leaves holds on until another has loaded the same, and not where nobody comes", async () => {
  const { swarm, small } = await shared(LAN_MS, 2);
  await until(swarm, "they share", () => partsOf(small).stage !== undefined);
  const { stage, helpers } = partsOf(small);
  const [leaver] = helpers;
  if (!stage || !leaver) throw new Error("nobody helps");
  const other = await contributor(swarm, SMALL);
  leaver.leave.abort();
  const state = { left: false };
  void leaver.serving.then(() => (state.left = true));
  await until(swarm, "it has left", () => {
    expect(stage.contribution.own).toBeDefined();
    return state.left;
  });
  expect(last(other)?.name).toBe("helping");
  await swarm.clock.until(step(stage), 60_000);
  other.leave.abort();
  const left = swarm.clock.now();
  await swarm.clock.until(other.serving, 60_000);
  expect(swarm.clock.now() - left).toBeLessThan(10_000);
}, 60_000);

test("without another the step fails as of a peer that is lost, nobody is sent there, and a new helper brings the stage back", async () => {
  const { swarm, large, small } = await shared(LAN_MS, 2);
  await until(swarm, "they share", () => partsOf(small).stage !== undefined);
  const { stage, helpers } = partsOf(small);
  if (!stage) throw new Error("nobody serves");
  await until(swarm, "it is heard", () => servedLayers(large).length === 1);
  const running = step(stage).then(
    () => undefined,
    (error: unknown) => error,
  );
  const died = helpers[0]?.die();
  expect(await swarm.clock.until(running, 60_000)).toMatchObject({ name: "PeerLostError" });
  await until(swarm, "it is heard", () => servedLayers(large).length === 0, 2000);
  expect(large.member.peers.directory.get(stage.member.peers.id)).toMatchObject({ state: "waiting", experts: { wanted: true } });
  await died;
  const another = await contributor(swarm, SMALL);
  await until(swarm, "another helps", () => last(another)?.name === "helping");
  await until(swarm, "it is heard", () => servedLayers(large).length === 1);
  await swarm.clock.until(step(stage), 60_000);
}, 60_000);
