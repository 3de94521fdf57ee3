/**
 * One host of `bench/decode.ts`: a peer that serves its share of a small model and pushes to the next, or the client that decodes with it. Signals come and go as lines of JSON.
 *
 *     decodeHost.ts client|peerINDEX PEERS pushed|relayed SEQUENCES,... ROW_MS GROUPS HIDDEN ACTIVATIONS
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { type ActivationFormat, memoryChannel, serveStage } from "@shoal/cluster";
import type { Batch, SequenceSlot, StepOutput } from "@shoal/model";
import { linkChannel } from "../src/link/linkChannel.ts";
import { denoPeerConnection } from "../src/link/rtc.deno.ts";
import { RtcNegotiator, type Signal } from "../src/link/rtcNegotiator.ts";
import { SILENCE_MS, StripedLink } from "../src/link/stripedLink.ts";
import { openedOver } from "../src/member/client.ts";
import { LANES } from "../src/peers.ts";
import type { OpenedHop } from "../src/pipeline/hop.ts";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import type { LayerRange } from "../src/plan/range.ts";
import { PushLinks } from "../src/push/pushLinks.ts";
import { servePushing } from "../src/push/pushPort.ts";
import { FAKE, FakeStage } from "../test/fakeModel.ts";

/** The links between the peers come about meanwhile. */
const WARM_UP_TOKENS = 50;
const TOKENS = 100;
/** Steps under way and unread. */
const AHEAD = 8;
const [role = "", peers = "1", way = "pushed", sequenceCounts = "1", rowMs = "0", groups = "", hidden = "", activations = "f32"] =
  Deno.args;
const hiddenSize = hidden === "" ? FAKE.hiddenSize : Number(hidden);
const format: ActivationFormat = activations === "f16" ? "f16" : "f32";
const count = Number(peers);
const isClient = role === "client";
const own = Number(role.slice("peer".length));
const rtc = { PeerConnection: denoPeerConnection() };

/** Rows take their time, one after the other. */
class BusyStage extends FakeStage {
  #busy: Promise<unknown> = Promise.resolve();

  override forward(batch: Batch): Promise<StepOutput> {
    const ms = Number(rowMs) * batch.entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const done = this.#busy.then(async () => {
      if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
      return super.forward(batch);
    });
    this.#busy = done.catch(() => undefined);
    return done;
  }
}

/** Hidden states as wide as a large model's: what they hold nobody looks at, so the arithmetic is left out. */
class WideStage extends BusyStage {
  override async forward(batch: Batch): Promise<StepOutput> {
    const narrow = batch.entries.map(({ hidden: given, ...entry }) => {
      const rows = given && given.length / hiddenSize;
      return { ...entry, ...(rows !== undefined && { hidden: new Float32Array(rows * FAKE.hiddenSize).fill(given?.[0] ?? 0) }) };
    });
    const { hidden: few, ...output } = await super.forward({ ...batch, entries: narrow });
    if (!few) return output;
    const wide = new Float32Array((few.length / FAKE.hiddenSize) * hiddenSize);
    for (let at = 0; at < wide.length; at++) wide[at] = few[at % few.length] ?? 0;
    return { ...output, hidden: wide };
  }
}

interface End {
  readonly link: StripedLink;
  readonly negotiator: RtcNegotiator;
  readonly ready: Promise<void>;
}

/** @param dials whether this side offers */
function end(to: string, dials: boolean): End {
  const link = new StripedLink({ remote: to, silenceMs: 4 * SILENCE_MS });
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const negotiator: RtcNegotiator = new RtcNegotiator(rtc, {
    send: (signal) => console.log(JSON.stringify({ to, signal })),
    lane: (lane) => {
      link.addLane(lane);
      if (link.lanes === LANES) resolve();
    },
    failure: () => void (dials && negotiator.offer()),
  });
  if (dials) for (let lane = 0; lane < LANES; lane++) void negotiator.offer();
  return { link, negotiator, ready };
}

function layersOf(peer: number): LayerRange {
  return { begin: Math.floor((peer * FAKE.nLayers) / count), end: Math.floor(((peer + 1) * FAKE.nLayers) / count) };
}

const names = Array.from({ length: count }, (_, index) => `peer${index}`);
const ends = new Map<string, End>();
createInterface({ input: process.stdin }).on("line", (line) => {
  const { from, signal } = JSON.parse(line) as { readonly from: string; readonly signal: Signal };
  void ends.get(from)?.negotiator.take(signal);
});
if (isClient) for (const name of names) ends.set(name, end(name, true));
else {
  const toClient = end("client", false);
  ends.set("client", toClient);
  const next = names[own + 1];
  const before = names[own - 1];
  if (before !== undefined) ends.set(before, end(before, false));
  if (next !== undefined) ends.set(next, end(next, true));
  const links = new PushLinks({
    connect: async (peer) => {
      const to = ends.get(peer);
      if (!to || peer !== next) throw new Error(`Cannot push to '${peer}': it is not the next`);
      await to.ready;
      return linkChannel(to.link);
    },
  });
  if (before !== undefined) {
    const { link } = ends.get(before) ?? {};
    if (link) links.receive(before, linkChannel(link));
  }
  const [near, stage] = memoryChannel();
  void serveStage(stage, new (hiddenSize === FAKE.hiddenSize ? BusyStage : WideStage)(layersOf(own)), { ownsStage: false });
  servePushing({ near, far: linkChannel(toClient.link), links, hiddenSize, maxTokens: 16 });
  await toClient.link.closed;
  Deno.exit(0);
}

await Promise.all([...ends.values()].map(({ ready }) => ready));
const remotes: OpenedHop[] = [];
const stage = await SwarmStage.open({
  ...FAKE,
  hiddenSize,
  plan: () => names.map((peer, index) => ({ peer, layers: layersOf(index) })),
  missing: () => [],
  ...(groups !== "" && { groups: Number(groups) }),
  open: async ({ peer }) => {
    const at = ends.get(peer);
    if (!at) throw new Error(`Cannot open '${peer}': it is not there`);
    const { pushing, ...opened } = openedOver(linkChannel(at.link), peer, hiddenSize, format);
    const hop = { ...opened, ...(way === "pushed" && pushing && { pushing }) };
    remotes.push(hop);
    return hop;
  },
});
const [probe] = remotes;
/** Median of a call that carries next to nothing, while nothing else goes on. */
async function roundTrip(): Promise<number> {
  const all: number[] = [];
  for (let i = 0; i < 30; i++) {
    const begin = performance.now();
    await probe?.stage.describe();
    all.push(performance.now() - begin);
  }
  return all.sort((a, b) => a - b)[15] ?? Number.NaN;
}

/** Tokens of so many sequences at once, submitted ahead as the engine does. */
async function decode(sequences: number, tokens: number): Promise<{ readonly times: readonly number[]; readonly ms: number }> {
  const slots: SequenceSlot[] = [];
  for (let i = 0; i < sequences; i++) slots.push(await stage.open());
  let { step } = await stage.forward({ entries: slots.map((sequence, index) => ({ sequence, tokens: [1 + index] })), output: "sample" });
  await stage.sampled(step, 1);
  const first = step + 1;
  const begin = performance.now();
  const times: number[] = [];
  let before = begin;
  for (let token = 0; token < tokens; token++) {
    for (; step < Math.min(first + token + AHEAD, first + tokens) - 1;)
      ({ step } = await stage.forward({ entries: slots.map((sequence) => ({ sequence, tokens: "sampled" as const })), output: "sample" }));
    await stage.sampled(first + token, 1);
    const now = performance.now();
    times.push(now - before);
    before = now;
  }
  for (const slot of slots) await stage.close(slot);
  return { times: times.sort((a, b) => a - b), ms: before - begin };
}

await decode(1, WARM_UP_TOKENS);
const rttMs = await roundTrip();
const results: unknown[] = [];
for (const sequences of sequenceCounts.split(",").map(Number)) {
  const { times, ms } = await decode(sequences, TOKENS);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
  const ifPushedMs = ((count + 1) * rttMs) / 2 + count * Number(rowMs);
  results.push({
    way,
    peers: count,
    sequences,
    hiddenSize,
    activations: format,
    rttMs,
    tokenMs: at(0.5),
    token95Ms: at(0.95),
    roundTrips: at(0.5) / rttMs,
    ifPushedMs,
    overPushed: at(0.5) / ifPushedMs,
    tokensPerSecond: (sequences * TOKENS * 1000) / ms,
    replaced: stage.replaced,
  });
}
console.log(JSON.stringify({ results }));
setTimeout(() => Deno.exit(0), 200);
