/**
 * A relay and peers over real libp2p and WebRTC in one process, in a namespace with a loopback interface alone. Prints a line of JSON for each thing that was tried.
 */
import { networkInterfaces } from "node:os";
import { newIdentity } from "../../src/control/identity.ts";
import { newInvite } from "../../src/control/invite.ts";
import { libp2pRendezvous } from "../../src/control/libp2pRendezvous.ts";
import { joinAs } from "../../src/control/membership.ts";
import { type Relay, startRelay } from "../../src/control/relay.ts";
import { topicOf } from "../../src/control/topic.ts";
import type { Link } from "../../src/link/link.ts";
import { denoPeerConnection } from "../../src/link/rtc.deno.ts";
import type { PeerConnectionConstructor } from "../../src/link/rtcNegotiator.ts";
import { Peers } from "../../src/peers.ts";
import { MODEL, serving } from "../swarmFixture.ts";

const outside = Object.keys(networkInterfaces()).filter((name) => name !== "lo");
if (outside.length > 0) throw new Error(`Cannot open WebRTC here: there is '${outside.join("', '")}', expected a namespace of its own`);

async function attempt(name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
    console.log(JSON.stringify({ name, ok: true }));
  } catch (error) {
    console.log(JSON.stringify({ name, ok: false, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }));
  }
}

async function until(what: string, holds: () => boolean, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function echo(link: Link, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    link.listen((message) => (message.byteLength === bytes ? resolve() : reject(new Error(`${message.byteLength} bytes came back`))));
    link.send(new Uint8Array(bytes)).catch(reject);
  });
}

const relayIdentity = await newIdentity();
let relay: Relay = await startRelay({ identity: relayIdentity, host: "127.0.0.1", port: 0 });
const [address = ""] = relay.addresses;
const port = Number(/tcp\/(\d+)/.exec(address)?.[1]);
const owner = await newIdentity();
const invite = await newInvite(owner, { relays: [address], manifestDigest: MODEL, modelName: "tiny" });

async function join(by = invite, PeerConnection: PeerConnectionConstructor | null = denoPeerConnection()): Promise<Peers> {
  const identity = await newIdentity();
  const rendezvous = await libp2pRendezvous({ identity, relays: [address], topic: topicOf(owner.id) });
  return new Peers({
    identity,
    membership: await joinAs(identity.id, owner.id, by.identity, by.certificate),
    swarm: owner.id,
    model: MODEL,
    rendezvous,
    ...(PeerConnection && { rtc: { PeerConnection } }),
    onLink: (link) => link.listen((message) => void link.send(message).catch(() => {})),
  });
}

const a = await join();
const b = await join();
let link: Link | undefined;

await attempt("peers hear of one another through the relay", async () => {
  a.announce(serving(0, 3));
  b.announce(serving(3, 6));
  await until("hearing", () => a.directory.peers().length === 1 && b.directory.peers().length === 1);
});
await attempt("a link of four WebRTC connections comes about", async () => {
  link = await a.connect(b.id, "stage");
  await echo(link, 14_400);
  await until("four lanes", () => link?.stats().lanes === 4);
  if (link.stats().kind !== "webrtc") throw new Error(`the link is ${link.stats().kind}`);
});
await attempt("connections that fail while others come about are tried again", async () => {
  let failures = 3;
  const PeerConnection = new Proxy(denoPeerConnection(), {
    construct(target, args: [RTCConfiguration?]) {
      const made = new target(...args);
      if (failures-- > 0) Reflect.set(made, "createOffer", () => Promise.reject(new Error("no way")));
      return made;
    },
  });
  const c = await join(invite, PeerConnection);
  const thin = await c.connect(a.id, "stage");
  await until("four lanes", () => thin.stats().lanes === 4);
  if (failures >= 0) throw new Error("nothing failed");
  await echo(thin, 14_400);
  await c.close();
});
await attempt("the link lives on while the relay is gone, and peers come back to it by themselves", async () => {
  await relay.close();
  await until("forgetting", () => a.directory.peers().length === 0);
  if (!link) throw new Error("no link");
  await echo(link, 100_000);
  relay = await startRelay({ identity: relayIdentity, host: "127.0.0.1", port });
  await until("hearing again", () => a.directory.peers().length === 1 && b.directory.peers().length === 1, 30_000);
  await echo(await b.connect(a.id, "stage"), 5000);
});
await attempt("a non-member reaches nobody and is heard by nobody", async () => {
  const stranger = await newIdentity();
  const forged = await newInvite(stranger, invite);
  const uninvited = await join(forged);
  uninvited.announce(serving(0, 6));
  await uninvited.connect(a.id, "stage").then(
    () => Promise.reject(new Error("it got a link")),
    () => undefined,
  );
  if (a.directory.peers().length !== 1) throw new Error("it was heard");
  await uninvited.close();
});
await attempt("where WebRTC does not connect, the relay carries the link, marked as slow", async () => {
  const c = await join(invite, null);
  const slow = await c.connect(a.id, "stage");
  await echo(slow, 100_000);
  if (slow.stats().kind !== "relay") throw new Error(`the link is ${slow.stats().kind}`);
  await c.close();
});
await Promise.race([Promise.all([a.close(), b.close(), relay.close()]), new Promise((resolve) => setTimeout(resolve, 3000))]);
Deno.exit(0);
