/**
 * One host of `bench/decode.ts`: a peer that serves its share of a small model and pushes to the next, or the client that decodes with it. Signals come and go as lines of JSON.
 *
 *     decodeHost.ts client|peerINDEX PEERS pushed|relayed
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { memoryChannel, serveStage } from "@shoal/cluster";
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
const [role = "", peers = "1", way = "pushed"] = Deno.args;
const count = Number(peers);
const isClient = role === "client";
const own = Number(role.slice("peer".length));
const rtc = { PeerConnection: denoPeerConnection() };

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
  void serveStage(stage, new FakeStage(layersOf(own)), { ownsStage: false });
  servePushing({ near, far: linkChannel(toClient.link), links, hiddenSize: FAKE.hiddenSize, maxTokens: 16 });
  await toClient.link.closed;
  Deno.exit(0);
}

await Promise.all([...ends.values()].map(({ ready }) => ready));
const remotes: OpenedHop[] = [];
const stage = await SwarmStage.open({
  ...FAKE,
  plan: () => names.map((peer, index) => ({ peer, layers: layersOf(index) })),
  missing: () => [],
  open: async ({ peer }) => {
    const at = ends.get(peer);
    if (!at) throw new Error(`Cannot open '${peer}': it is not there`);
    const { pushing, ...opened } = openedOver(linkChannel(at.link), peer, FAKE.hiddenSize, "f32");
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

const sequence = await stage.open();
const times: number[] = [];
await stage.forward({ entries: [{ sequence, tokens: [1] }], output: "sample" });
for (let token = 0; token < WARM_UP_TOKENS + TOKENS; token++) {
  const begin = performance.now();
  const { step } = await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
  await stage.sampled(step, 1);
  if (token >= WARM_UP_TOKENS) times.push(performance.now() - begin);
}
times.sort((a, b) => a - b);
const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
const rttMs = await roundTrip();
const ifPushedMs = ((count + 1) * rttMs) / 2;
console.log(
  JSON.stringify({
    result: {
      peers: count,
      rttMs,
      tokenMs: at(0.5),
      token95Ms: at(0.95),
      roundTrips: at(0.5) / rttMs,
      ifPushedMs,
      overPushed: at(0.5) / ifPushedMs,
      way,
      replaced: stage.replaced,
    },
  }),
);
setTimeout(() => Deno.exit(0), 200);
