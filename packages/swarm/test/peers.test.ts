import { afterEach, describe, expect, test } from "vitest";
import type { Link } from "../src/link/link.ts";
import { newIdentity } from "../src/control/identity.ts";
import { newInvite } from "../src/control/invite.ts";
import { joinAs } from "../src/control/membership.ts";
import type { Peers } from "../src/peers.ts";
import { inbox } from "./linkContract.ts";
import { OTHER_MODEL, type TestSwarm, serving, testSwarm } from "./swarmFixture.ts";

const opened: Peers[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((peers) => peers.close()));
});

type Options = Parameters<TestSwarm["join"]>[0];

async function joined(swarm: TestSwarm, options: Options = {}): Promise<Peers> {
  const peers = await swarm.join(options);
  opened.push(peers);
  return peers;
}

/** A peer that echoes what its links bring. */
function echoing(swarm: TestSwarm, options: Options = {}): Promise<Peers> {
  return joined(swarm, { onLink: (link) => link.listen((message) => void link.send(message).catch(() => {})), ...options });
}

describe("the directory", () => {
  test("peers hear of one another, of changes, and of leaving; who falls silent is forgotten", async () => {
    const swarm = await testSwarm();
    const [a, b, c] = [await joined(swarm), await joined(swarm), await joined(swarm)];
    b.announce(serving(0, 3));
    c.announce(serving(3, 6));
    await swarm.clock.advance(100);
    expect(a.directory.peers().map(({ layers }) => layers)).toEqual(
      expect.arrayContaining([
        { begin: 0, end: 3 },
        { begin: 3, end: 6 },
      ]),
    );
    await b.close();
    await swarm.clock.advance(100);
    expect(a.directory.get(b.id)?.state).toBe("leaving");
    swarm.network.cutOff.add(c.id);
    await swarm.clock.advance(8000);
    expect(a.directory.peers()).toEqual([]);
  });

  test("peers of another model, non-members and floods are not heard", async () => {
    const swarm = await testSwarm();
    const a = await joined(swarm);
    const foreign = await joined(swarm, { model: OTHER_MODEL });
    foreign.announce(serving(0, 6));
    const stranger = await newIdentity();
    const forged = await newInvite(stranger, swarm.invite);
    const uninvited = await swarm.join({ identity: stranger, invite: { ...forged, swarm: swarm.owner.id } });
    opened.push(uninvited);
    uninvited.announce(serving(0, 6));
    await swarm.clock.advance(3000);
    expect(a.directory.peers()).toEqual([]);
    const flooder = swarm.network.join((await newIdentity()).id);
    const b = await joined(swarm);
    b.announce(serving(0, 6));
    for (let i = 0; i < 500; i++) flooder.publish(new Uint8Array(1000));
    await swarm.clock.advance(100);
    expect(a.directory.peers().map(({ peer }) => peer)).toEqual([b.id]);
    expect(Array.from({ length: 100 }, () => a.directory.admits(flooder.id)).some(Boolean)).toBe(false);
  });

  test("an announcement that was recorded and is played again changes nothing", async () => {
    const swarm = await testSwarm();
    const a = await joined(swarm);
    const b = await joined(swarm);
    const recorded: Uint8Array[] = [];
    const enemy = swarm.network.join((await newIdentity()).id);
    enemy.listen({ onChannel: () => {}, onMessage: (_, message) => recorded.push(message) });
    b.announce(serving(0, 3));
    await swarm.clock.advance(100);
    b.announce(serving(3, 6));
    await swarm.clock.advance(100);
    for (const message of recorded) enemy.publish(message);
    await swarm.clock.advance(100);
    expect(a.directory.get(b.id)?.layers).toEqual({ begin: 3, end: 6 });
  });

  test("clocks an hour apart do not matter", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm, { wallClock: () => Date.now() + 3_600_000 });
    const b = await joined(swarm, { wallClock: () => Date.now() - 3_600_000 });
    a.announce(serving(0, 6, { started: Date.now() + 3_600_000 }));
    await swarm.clock.advance(100);
    expect(b.directory.get(a.id)?.layers).toEqual({ begin: 0, end: 6 });
    const link = await swarm.clock.until(b.connect(a.id, "stage"), 2000);
    expect(await echo(swarm, link)).toBe(true);
  });
});

describe("links between peers", () => {
  test("a member connects to a member; both measure the round trip", async () => {
    const swarm = await testSwarm(() => 20);
    const a = await echoing(swarm);
    const b = await joined(swarm);
    const link = await swarm.clock.until(b.connect(a.id, "stage"), 5000);
    expect(await echo(swarm, link)).toBe(true);
    expect(link.stats().kind).toBe("relay");
    expect(b.rtts().get(a.id)).toBeCloseTo(40);
  });

  test("a non-member gets no link, whoever it says it is", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const { identity: invite, certificate } = swarm.invite;
    const member = await newIdentity();
    const membership = await joinAs(member.id, swarm.owner.id, invite, certificate);
    const stranger = await newIdentity();
    const forged = await newInvite(stranger, swarm.invite);
    const uninvited = await joined(swarm, {
      identity: stranger,
      membership: await joinAs(stranger.id, swarm.owner.id, forged.identity, forged.certificate),
    });
    await expect(swarm.clock.until(uninvited.connect(a.id, "stage"), 20_000)).rejects.toMatchObject({ name: "SwarmError" });
    // With the name of a member, whose key it does not have.
    const guessed = await joined(swarm, { identity: { ...stranger, id: member.id }, membership });
    await expect(swarm.clock.until(guessed.connect(a.id, "stage"), 20_000)).rejects.toMatchObject({ name: "SwarmError" });
    expect(a.links()).toEqual([]);
  });

  test("one that opens channels and says nothing is hung up on, and others get through", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const staller = swarm.network.join((await newIdentity()).id);
    const channels = await Promise.all(Array.from({ length: 20 }, () => staller.open(a.id)));
    const b = await joined(swarm);
    expect(await echo(swarm, await swarm.clock.until(b.connect(a.id, "stage"), 2000))).toBe(true);
    await swarm.clock.advance(11_000);
    const closed = await Promise.all(channels.map((channel) => channel.closed.then(() => true)));
    expect(closed).toHaveLength(20);
  });

  test("10,000 malformed greetings leave no link and no channel behind", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const enemy = swarm.network.join((await newIdentity()).id);
    for (let i = 0; i < 500; i++) {
      const batch = await Promise.all(Array.from({ length: 20 }, () => enemy.open(a.id)));
      for (const [index, channel] of batch.entries())
        channel.send(index % 3 === 0 ? "{" : JSON.stringify({ nonce: index, membership: {} }));
      await swarm.clock.advance(30);
      await Promise.all(batch.map(({ closed }) => closed));
    }
    expect(a.links()).toEqual([]);
    const b = await joined(swarm);
    expect(await echo(swarm, await swarm.clock.until(b.connect(a.id, "stage"), 2000))).toBe(true);
  }, 120_000);

  test("an expelled peer's links end at once, and it gets no new one", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const b = await joined(swarm);
    const owner = await joined(swarm);
    b.announce(serving(0, 6));
    const link = await swarm.clock.until(b.connect(a.id, "stage"), 2000);
    await owner.expel(swarm.owner, { peers: [b.id] });
    await swarm.clock.advance(200);
    expect((await swarm.clock.until(link.closed, 1000)).message).toMatch(/expelled/);
    expect(a.directory.peers()).toEqual([]);
    await expect(swarm.clock.until(b.connect(a.id, "stage"), 20_000)).rejects.toMatchObject({ name: "SwarmError" });
  });

  test("whoever comes later hears who was expelled; an owner that kept its list can add to it", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const [b, c] = [await joined(swarm), await joined(swarm)];
    const first = await joined(swarm);
    for (const peer of [a, b, c]) peer.announce(serving(0, 6));
    await swarm.clock.advance(100);
    const list = await first.expel(swarm.owner, { peers: [b.id] });
    await swarm.clock.advance(100);
    expect([b.expelled, c.expelled]).toEqual([true, false]);
    await first.close();
    const late = await echoing(swarm);
    late.announce(serving(0, 6));
    await swarm.clock.advance(1000);
    await expect(swarm.clock.until(b.connect(late.id, "stage"), 20_000)).rejects.toMatchObject({ name: "SwarmError" });
    const silent = await echoing(swarm);
    await swarm.clock.advance(10_000);
    expect(silent.expulsions.has(b.id)).toBe(true);
    const again = await swarm.join();
    opened.push(again);
    await again.recallExpulsions(list);
    await again.expel(swarm.owner, { peers: [c.id] });
    await swarm.clock.advance(100);
    expect([a, late].map(({ expulsions }) => [expulsions.has(b.id), expulsions.has(c.id)])).toEqual([
      [true, true],
      [true, true],
    ]);
    expect(c.expelled).toBe(true);
  });

  test("an expelled invite ends the links of all who came by it, whichever side asked for them", async () => {
    const swarm = await testSwarm();
    const other = await newInvite(swarm.owner, swarm.invite);
    const a = await echoing(swarm);
    const [b, c] = [await joined(swarm, { invite: other }), await echoing(swarm, { invite: other })];
    const asked = await swarm.clock.until(b.connect(a.id, "stage"), 2000);
    const own = await swarm.clock.until(a.connect(c.id, "stage"), 2000);
    const owner = await joined(swarm);
    await owner.expel(swarm.owner, { invites: [other.identity.id] });
    await swarm.clock.advance(200);
    for (const link of [asked, own]) expect((await swarm.clock.until(link.closed, 1000)).message).toMatch(/expelled/);
    expect([a.expelled, b.expelled, c.expelled]).toEqual([false, true, true]);
  });

  test("a banned peer gets no link until the ban ends", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const b = await joined(swarm);
    a.ban(b.id, "it lied");
    await expect(swarm.clock.until(b.connect(a.id, "stage"), 20_000)).rejects.toMatchObject({ name: "SwarmError" });
    await swarm.clock.advance(61_000);
    expect(await echo(swarm, await swarm.clock.until(b.connect(a.id, "stage"), 2000))).toBe(true);
  });

  test("a partition of two seconds, and a rendezvous that restarts, lose no message", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const b = await joined(swarm);
    const link = await swarm.clock.until(b.connect(a.id, "stage"), 2000);
    expect(await echo(swarm, link)).toBe(true);
    const box = inbox(link);
    swarm.network.cutOff.add(b.id);
    for (let i = 0; i < 20; i++) await link.send(Uint8Array.of(i));
    await swarm.clock.advance(2000);
    swarm.network.cutOff.delete(b.id);
    const answers: number[] = [];
    for (let i = 0; i < 20; i++) answers.push((await swarm.clock.until(box.take(), 10_000))[0] ?? -1);
    expect(answers).toEqual(Array.from({ length: 20 }, (_, index) => index));
  });

  test("one peer may not have more links than are good for all", async () => {
    const swarm = await testSwarm();
    const a = await echoing(swarm);
    const b = await joined(swarm);
    const results = await swarm.clock.until(Promise.allSettled(Array.from({ length: 12 }, () => b.connect(a.id, "stage"))), 40_000);
    expect(results.filter(({ status }) => status === "fulfilled").length).toBe(8);
    expect(a.links().length).toBe(8);
  });
});

async function echo(swarm: TestSwarm, link: Link): Promise<boolean> {
  const answer = new Promise<boolean>((resolve) => link.listen((message) => resolve(message[0] === 42)));
  await link.send(Uint8Array.of(42));
  return swarm.clock.until(answer, 2000);
}
