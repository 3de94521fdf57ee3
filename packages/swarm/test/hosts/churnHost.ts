/**
 * One process of the test of churn, over real libp2p and WebRTC; the model's arithmetic takes no time.
 *
 *     churnHost.ts relay ADDRESS | peer INVITE BEGIN END | clients INVITE COUNT [AUDIT SHARE]
 *
 * A relay prints its address, a peer its name when it serves. Clients, each with an identity, links and a path of its own, ask one thing after the other until standard input ends, and
 * print a line of JSON for each answer, and for each peer that was replaced with how long it took from the token before that to the token after it.
 */
import { networkInterfaces } from "node:os";
import process from "node:process";
import { memoryChannel, serveStage } from "@shoal/cluster";
import { newIdentity } from "../../src/control/identity.ts";
import { inviteFromText } from "../../src/control/invite.ts";
import { libp2pRendezvous } from "../../src/control/libp2pRendezvous.ts";
import { joinAs } from "../../src/control/membership.ts";
import { startRelay } from "../../src/control/relay.ts";
import { topicOf } from "../../src/control/topic.ts";
import type { Link } from "../../src/link/link.ts";
import { linkChannel } from "../../src/link/linkChannel.ts";
import { denoPeerConnection } from "../../src/link/rtc.deno.ts";
import { announceClient, openSwarmStage } from "../../src/member/client.ts";
import { type LinkPurpose, Peers } from "../../src/peers.ts";
import { maxPushBytes } from "../../src/push/messages.ts";
import { PushLinks } from "../../src/push/pushLinks.ts";
import { servePushing } from "../../src/push/pushPort.ts";
import { FAKE, FakeStage, answer } from "../fakeModel.ts";
import { serving } from "../swarmFixture.ts";
import { TOKENS, promptOf } from "./churnPrompts.ts";

const FAULTS = ["stalls", "nan", "lies"] as const;
/** Of a step. */
const MAX_TOKENS = 16;
const [role = "", text = "", ...numbers] = Deno.args;
const outside = Object.keys(networkInterfaces()).filter((name) => name !== "lo" && name !== "lab0");
if (outside.length > 0) throw new Error(`Cannot open WebRTC here: there is '${outside.join("', '")}', expected a network of its own`);

async function join(onLink?: (link: Link, purpose: LinkPurpose) => void): Promise<Peers> {
  const invite = inviteFromText(text);
  const identity = await newIdentity();
  return new Peers({
    identity,
    membership: await joinAs(identity.id, invite.swarm, invite.identity, invite.certificate),
    swarm: invite.swarm,
    model: invite.manifestDigest,
    rendezvous: await libp2pRendezvous({ identity, relays: invite.relays, topic: topicOf(invite.swarm) }),
    rtc: { PeerConnection: denoPeerConnection() },
    ...(onLink && { onLink }),
  });
}

async function serve(begin: number, end: number): Promise<void> {
  const stage = new FakeStage({ begin, end });
  const { hiddenSize } = FAKE;
  const links: PushLinks = new PushLinks({ connect: async (peer) => linkChannel(await peers.connect(peer, "push")) });
  const peers: Peers = await join((link, purpose) => {
    if (purpose === "push") return links.receive(link.remote, linkChannel(link, maxPushBytes(MAX_TOKENS, hiddenSize)));
    const [near, far] = memoryChannel();
    void serveStage(far, stage, { ownsStage: false });
    servePushing({ near, far: linkChannel(link), links, hiddenSize, maxTokens: MAX_TOKENS });
  });
  const started = Date.now();
  const announce = (): void => peers.announce(serving(begin, end, { started, stepMs: 1, load: stage.openSequences / stage.room }));
  announce();
  setInterval(announce, 1000);
  // Whatever is written to it is what is wrong with it from then on.
  process.stdin.on("data", (text: Buffer) => {
    stage.fault = FAULTS.find((fault) => fault === text.toString().trim()) ?? "none";
  });
  console.log(peers.id);
}

const state = { stopped: false };

const [, auditShare] = numbers;

async function ask(client: number, before: Promise<unknown>, onPath: () => void): Promise<void> {
  await before;
  const say = (line: Readonly<Record<string, unknown>>): void => console.log(JSON.stringify({ client, ...line }));
  /** Given up since the last token. */
  const lost: string[] = [];
  const peers = await join();
  announceClient(peers, "deno");
  const stage = await openSwarmStage(
    { peers, checkpoint: { config: FAKE } },
    {
      onFault: (peer, fault, error) => {
        lost.push(peer);
        say({ peer, fault, error: error.message });
      },
      onLiar: (liar, reason) => say({ liar, reason }),
      ...(auditShare !== undefined && { auditShare: Number(auditShare) }),
    },
  );
  onPath();
  for (let turn = client; !state.stopped; turn++) {
    let last = performance.now();
    const ids = await answer(stage, promptOf(turn), TOKENS, () => {
      const now = performance.now();
      if (lost.length > 0) say({ lost: lost.splice(0), stallMs: Math.round(now - last) });
      last = now;
    });
    say({ turn, ids, path: stage.path.map(({ peer }) => peer) });
  }
  await stage.destroy();
  await peers.close();
}

if (role === "relay") {
  const relay = await startRelay({ identity: await newIdentity(), host: text, port: 4001 });
  console.log(relay.addresses[0]);
} else if (role === "peer") {
  await serve(Number(numbers[0]), Number(numbers[1]));
} else {
  process.stdin.on("end", () => (state.stopped = true)).resume();
  const running: Promise<void>[] = [];
  let before: Promise<unknown> = Promise.resolve();
  for (let client = 0; client < Number(numbers[0]); client++) {
    const { promise, resolve } = Promise.withResolvers<void>();
    running.push(ask(client, before, resolve).finally(resolve));
    // Two at a time: connecting is the dearest part.
    if (client % 2 === 1) before = promise;
  }
  for (const [client, result] of (await Promise.allSettled(running)).entries())
    if (result.status === "rejected") console.log(JSON.stringify({ client, failed: String(result.reason) }));
  Deno.exit(0);
}
