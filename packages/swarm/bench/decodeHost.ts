/**
 * One host of `bench/decode.ts`: a peer that serves its share of a small model, or the client that decodes with it. Signals come and go as lines of JSON.
 *
 *     decodeHost.ts client|peerINDEX PEERS
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { type RemoteStage, remoteStage, serveStage } from "@shoal/cluster";
import { linkChannel } from "../src/link/linkChannel.ts";
import { denoPeerConnection } from "../src/link/rtc.deno.ts";
import { RtcNegotiator, type Signal } from "../src/link/rtcNegotiator.ts";
import { SILENCE_MS, StripedLink } from "../src/link/stripedLink.ts";
import { LANES } from "../src/peers.ts";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import type { LayerRange } from "../src/plan/range.ts";
import { FAKE, FakeStage } from "../test/fakeModel.ts";

const WARM_UP_TOKENS = 10;
const TOKENS = 100;
const [role = "", peers = "1"] = Deno.args;
const count = Number(peers);
const isClient = role === "client";
const rtc = { PeerConnection: denoPeerConnection() };

interface End {
  readonly link: StripedLink;
  readonly negotiator: RtcNegotiator;
  readonly ready: Promise<void>;
}

function end(peer: number): End {
  const link = new StripedLink({ remote: isClient ? `peer${peer}` : "client", silenceMs: 4 * SILENCE_MS });
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const negotiator: RtcNegotiator = new RtcNegotiator(rtc, {
    send: (signal) => console.log(JSON.stringify({ peer, signal })),
    lane: (lane) => {
      link.addLane(lane);
      if (link.lanes === LANES) resolve();
    },
    failure: () => void (isClient && negotiator.offer()),
  });
  return { link, negotiator, ready };
}

function layersOf(peer: number): LayerRange {
  return { begin: Math.floor((peer * FAKE.nLayers) / count), end: Math.floor(((peer + 1) * FAKE.nLayers) / count) };
}

const ends = isClient ? Array.from({ length: count }, (_, peer) => end(peer)) : [end(Number(role.slice("peer".length)))];
createInterface({ input: process.stdin }).on("line", (line) => {
  const { peer, signal } = JSON.parse(line) as { readonly peer: number; readonly signal: Signal };
  void ends[isClient ? peer : 0]?.negotiator.take(signal);
});

const [own] = ends;
if (!isClient && own) {
  void serveStage(linkChannel(own.link), new FakeStage(layersOf(Number(role.slice("peer".length)))), { ownsStage: false });
  await own.link.closed;
  Deno.exit(0);
}

for (const { negotiator } of ends) for (let lane = 0; lane < LANES; lane++) void negotiator.offer();
await Promise.all(ends.map(({ ready }) => ready));
const remotes: RemoteStage[] = [];
const stage = await SwarmStage.open({
  ...FAKE,
  plan: () => ends.map((_, index) => ({ peer: `peer${index}`, layers: layersOf(index) })),
  missing: () => [],
  open: async ({ peer }) => {
    const at = ends[Number(peer.slice("peer".length))];
    if (!at) throw new Error(`Cannot open '${peer}': it is not there`);
    const remote = remoteStage(linkChannel(at.link), { peer, silenceMs: Number.POSITIVE_INFINITY });
    remotes.push(remote);
    return { stage: remote, forwardTold: (batch) => remote.forwardTold(batch), lost: remote.lost, close: () => at.link.close() };
  },
});
const [probe] = remotes;
/** Median of a call that carries next to nothing, while nothing else goes on. */
async function roundTrip(): Promise<number> {
  const all: number[] = [];
  for (let i = 0; i < 30; i++) {
    const begin = performance.now();
    await probe?.describe();
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
      replaced: stage.replaced,
    },
  }),
);
setTimeout(() => Deno.exit(0), 200);
