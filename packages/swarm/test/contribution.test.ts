import { fileURLToPath } from "node:url";
import { openCheckpoint } from "@shoal/checkpoint";
import { directoryFiles } from "@shoal/checkpoint/directory";
import { memoryChannel, serveStage } from "@shoal/cluster";
import { tinyModelUrl } from "@shoal/tiny-model";
import { expect, test } from "vitest";
import { Contribution, type ContributionPhase } from "../src/member/contribution.ts";
import type { StageHost } from "../src/member/stageHost.ts";
import type { SwarmMember } from "../src/member/entry.ts";
import { type LayerRange, gaps } from "../src/plan/range.ts";
import { ChunkedFiles, filesSource } from "../src/weights/chunkedFiles.ts";
import { makeManifest } from "../src/weights/manifest.ts";
import { FakeStage } from "./fakeModel.ts";
import { type TestSwarm, testSwarm } from "./swarmFixture.ts";

const files = directoryFiles(fileURLToPath(tinyModelUrl));
const checkpoint = await openCheckpoint(files);
const named = await makeManifest("tiny", files, ["config.json"]);
/** Two or three of the model's six layers, with their share of the KV cache of two contexts. */
const MEMORY = 24e6;
const LOAD_MS = 20_000;

interface Contributor {
  readonly contribution: Contribution;
  readonly phases: ContributionPhase[];
  readonly member: SwarmMember;
  readonly leave: AbortController;
  readonly taking: Promise<void>;
}

/** Its device takes its time to load, and computes with plain numbers. */
async function contributor(swarm: TestSwarm): Promise<Contributor> {
  const { clock } = swarm;
  const peers = await swarm.join();
  const source = filesSource(files);
  const chunks = new ChunkedFiles({ manifest: named.manifest, sources: () => [source] });
  const member: SwarmMember = { peers, manifest: named, files: chunks, checkpoint, isWhole: true, close: () => peers.close() };
  let stage: FakeStage | undefined;
  const host: StageHost = {
    async load(layers) {
      await new Promise<void>((resolve) => clock.after(LOAD_MS, resolve));
      stage = new FakeStage(layers);
    },
    async connect() {
      if (!stage) throw new Error("nothing is loaded");
      const [near, far] = memoryChannel();
      void serveStage(far, stage, { ownsStage: false });
      return near;
    },
    loadExperts: () => Promise.reject(new Error("nobody wants experts here")),
    measure: async () => ({ bytesPerSecond: 1e11, readbackMs: 0.2 }),
    unload: async () => void (stage = undefined),
  };
  const phases: ContributionPhase[] = [];
  const sizes = { memoryBytes: MEMORY, contextTokens: 512, maxSequences: 2 };
  const contribution = new Contribution({ member, host, ...sizes, kind: "deno", clock, onPhase: (phase) => phases.push(phase) });
  const leave = new AbortController();
  return { contribution, phases, member, leave, taking: contribution.take(leave.signal) };
}

function served({ phases }: Contributor): LayerRange | undefined {
  const last = phases.at(-1);
  return last?.name === "serving" ? last.layers : undefined;
}

test("peers that come at once agree on their layers before they load, whatever their names", async () => {
  const swarm = await testSwarm();
  const all = await Promise.all(Array.from({ length: 3 }, () => contributor(swarm)));
  // To listen and to claim, at most once for each of them; then all load at once.
  await swarm.clock.advance(1500 + 3 * 1300);
  expect(all.map(({ phases }) => phases.at(-1)?.name)).toEqual(["loading", "loading", "loading"]);
  await swarm.clock.advance(LOAD_MS + 1000);
  const held = all.flatMap((one) => served(one) ?? []);
  expect(held).toHaveLength(3);
  expect(gaps(checkpoint.config.nLayers, held)).toEqual([]);
  for (const { member } of all) await member.close();
});

test("one that leaves waits until somebody who can has taken its layers, and not where nobody can", async () => {
  const swarm = await testSwarm();
  const all: Contributor[] = [];
  for (let i = 0; i < 4; i++) {
    const one = await contributor(swarm);
    all.push(one);
    await swarm.clock.until(one.taking, 60_000);
  }
  const ranges = all.map((one) => JSON.stringify(served(one)));
  const leaver = all.find((one) => ranges.filter((range) => range === JSON.stringify(served(one))).length === 1);
  const range = leaver && served(leaver);
  if (!leaver || !range) throw new Error(`All are held twice: ${ranges.join()}`);
  const serving = all.map((one) => one.contribution.serve(one.leave.signal));
  leaver.leave.abort();
  const begin = swarm.clock.now();
  await swarm.clock.until(serving[all.indexOf(leaver)] ?? Promise.resolve(), 60_000);
  expect(swarm.clock.now() - begin).toBeGreaterThan(LOAD_MS);
  const others = all.filter((one) => one !== leaver);
  expect(others.map(served)).toContainEqual(range);
  await leaver.member.close();
  // Three are left, each alone with its layers.
  const next = others[0];
  if (!next) throw new Error("There is nobody");
  await swarm.clock.advance(10_000);
  next.leave.abort();
  const then = swarm.clock.now();
  await swarm.clock.until(serving[all.indexOf(next)] ?? Promise.resolve(), 60_000);
  expect(swarm.clock.now() - then).toBeLessThan(2000);
  for (const one of others) one.leave.abort();
  await swarm.clock.until(Promise.all(serving), 60_000);
  for (const { member } of others) await member.close();
});
