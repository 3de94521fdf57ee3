import { describe, expect, test } from "vitest";
import { z } from "zod";
import { decodeAnnouncement, encodeAnnouncement } from "../src/control/announcement.ts";
import { identityFromText, identityToText, newIdentity, sign, verify } from "../src/control/identity.ts";
import { inviteFromText, inviteToText, newInvite } from "../src/control/invite.ts";
import { CLOCK_SKEW_MS, Expulsions, checkMembership, joinAs, proveMembership, type TextChannel } from "../src/control/membership.ts";
import { Inbox } from "../src/control/inbox.ts";
import { MODEL, serving, testSwarm } from "./swarmFixture.ts";

const REFUSED = { name: "SwarmError", code: "not-a-member" };

function channels(spy: string[] = []): readonly [TextChannel, TextChannel] {
  const boxes = [new Inbox<string>(8), new Inbox<string>(8)] as const;
  const end = (own: 0 | 1): TextChannel => ({
    send: (text) => {
      spy.push(text);
      boxes[own === 0 ? 1 : 0].put(text);
    },
    receive: () => boxes[own].take(),
  });
  return [end(0), end(1)];
}

async function member() {
  const swarm = await testSwarm();
  const identity = await newIdentity();
  const membership = await joinAs(identity.id, swarm.owner.id, swarm.invite.identity, swarm.invite.certificate);
  const rules = { swarm: swarm.owner.id, expulsions: new Expulsions(swarm.owner.id) };
  return { swarm, identity, membership, rules };
}

describe("invites", () => {
  test("an invite survives being a text, and being behind a page's address", async () => {
    const { invite } = await testSwarm();
    const text = inviteToText(invite);
    expect(text.length).toBeLessThan(1500);
    for (const shown of [text, `https://example.org/chat#${text}`, ` ${text}\n`]) {
      const read = inviteFromText(shown);
      expect({ ...read, identity: read.identity.id }).toEqual({ ...invite, identity: invite.identity.id });
    }
  });

  test("a text that is no invite, or a damaged one, is refused by name", async () => {
    const text = inviteToText((await testSwarm()).invite);
    for (const bad of ["", "hello", "shoal:", "shoal:AAAA", text.slice(0, -20), text.replace("e", "f"), `shoal:${"A".repeat(5000)}`])
      expect(() => inviteFromText(bad)).toThrowError(expect.objectContaining({ code: "invite" }));
  });

  test("a private key survives being a text, and nothing else is one", async () => {
    const identity = await newIdentity();
    expect(identityFromText(identityToText(identity)).id).toBe(identity.id);
    for (const bad of ["", "AAAA", "no key"])
      expect(() => identityFromText(bad)).toThrowError(expect.objectContaining({ code: "malformed" }));
  });
});

describe("relays of an invite", () => {
  test.each(["nonsense", "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001/ws", ""])("'%s' is refused by name", async (relay) => {
    const about = { relays: [relay], manifestDigest: "ab".repeat(32), modelName: "tiny" };
    await expect(newInvite(await newIdentity(), about)).rejects.toMatchObject({
      name: "SwarmError",
      code: "invite",
      field: "relays",
      actual: relay,
    });
  });
});

describe("membership", () => {
  test("whoever joined by an invite of the swarm is a member", async () => {
    const { identity, membership, rules } = await member();
    await checkMembership(membership, identity.id, rules);
  });

  test("a membership is its peer's alone, its swarm's alone, and cannot be made without an invite", async () => {
    const { identity, membership, rules, swarm } = await member();
    const stranger = await newIdentity();
    const other = await testSwarm();
    await expect(checkMembership(membership, stranger.id, rules)).rejects.toMatchObject(REFUSED);
    await expect(checkMembership(membership, identity.id, { ...rules, swarm: other.owner.id })).rejects.toMatchObject(REFUSED);
    const own = { ...membership, member: await sign(stranger, "member", { swarm: swarm.owner.id, peer: stranger.id }) };
    await expect(checkMembership(own, stranger.id, rules)).rejects.toMatchObject(REFUSED);
    const forged = await newInvite(stranger, swarm.invite);
    const byForged = await joinAs(stranger.id, swarm.owner.id, forged.identity, forged.certificate);
    await expect(checkMembership(byForged, stranger.id, rules)).rejects.toMatchObject(REFUSED);
    const altered = { ...membership, invite: { ...membership.invite, payload: membership.invite.payload.replace(/\d{10}/, "9999999999") } };
    await expect(checkMembership(altered, identity.id, rules)).rejects.toMatchObject(REFUSED);
  });

  test("an invite runs out, give or take the difference of two clocks", async () => {
    const { identity, membership, rules } = await member();
    const end = Date.now() + 30 * 86_400_000;
    await checkMembership(membership, identity.id, { ...rules, wallClock: () => end + CLOCK_SKEW_MS - 60_000 });
    await checkMembership(membership, identity.id, { ...rules, wallClock: () => 0 });
    await expect(
      checkMembership(membership, identity.id, { ...rules, wallClock: () => end + CLOCK_SKEW_MS + 60_000 }),
    ).rejects.toMatchObject(REFUSED);
  });

  test("a peer that was expelled, or came by an expelled invite, is no member; only the swarm's key expels, and no older list counts", async () => {
    const { identity, membership, rules, swarm } = await member();
    const { expulsions } = rules;
    const first = await expulsions.expel(swarm.owner, { peers: [identity.id] });
    await expect(
      expulsions.take(await sign(identity, "expulsions", { swarm: swarm.owner.id, number: 9, peers: [], invites: [] })),
    ).rejects.toMatchObject(REFUSED);
    expect(await expulsions.take(first)).toBe(true);
    await expect(checkMembership(membership, identity.id, rules)).rejects.toMatchObject(REFUSED);
    const pardoned = await sign(swarm.owner, "expulsions", {
      swarm: swarm.owner.id,
      number: 2,
      peers: [],
      invites: [swarm.invite.identity.id],
    });
    expect(await expulsions.take(pardoned)).toBe(true);
    expect(await expulsions.take(first)).toBe(false);
    await expect(checkMembership(membership, identity.id, rules)).rejects.toMatchObject(REFUSED);
  });
});

describe("proofs of membership", () => {
  test("two members prove themselves to one another", async () => {
    const a = await member();
    const identity = await newIdentity();
    const membership = await joinAs(identity.id, a.swarm.owner.id, a.swarm.invite.identity, a.swarm.invite.certificate);
    const [near, far] = channels();
    await Promise.all([
      proveMembership(near, a, identity.id, a.rules),
      proveMembership(far, { identity, membership }, a.identity.id, a.rules),
    ]);
  });

  test("whatever was overheard of a proof is of no use to another, nor a second time", async () => {
    const a = await member();
    const b = await newIdentity();
    const membership = await joinAs(b.id, a.swarm.owner.id, a.swarm.invite.identity, a.swarm.invite.certificate);
    const heard: string[] = [];
    const [near, far] = channels(heard);
    await Promise.all([proveMembership(near, a, b.id, a.rules), proveMembership(far, { identity: b, membership }, a.identity.id, a.rules)]);
    // Somebody who has b's connection, as if its key were guessed, but not the key: plays b's part again.
    const [again, recorded] = channels();
    const proving = proveMembership(again, a, b.id, a.rules);
    const ofB = heard.filter(
      (text) =>
        text.includes(b.id) &&
        (text.includes('"membership"') ? text.includes(`\\"peer\\":\\"${b.id}\\"`) : text.includes(`"by":"${b.id}"`)),
    );
    expect(ofB.length).toBe(2);
    for (const text of ofB) recorded.send(text);
    await expect(proving).rejects.toMatchObject(REFUSED);
  });

  test("a non-member with a member's id, and one that sends nonsense, get nowhere", async () => {
    const a = await member();
    const stranger = await newIdentity();
    for (const said of ["{}", "nonsense", JSON.stringify({ nonce: "A".repeat(44), membership: a.membership })]) {
      const [near, far] = channels();
      const proving = proveMembership(near, a, stranger.id, a.rules);
      far.send(said);
      await expect(proving).rejects.toMatchObject({ name: "SwarmError" });
    }
  });
});

describe("announcements", () => {
  test("a signed announcement survives its way; a changed, foreign or oversized one does not", async () => {
    const a = await member();
    const said = { ...serving(0, 3), peer: a.identity.id, number: 1, model: MODEL, rtts: {} };
    const bytes = await encodeAnnouncement(a.identity, a.membership, said);
    expect(await decodeAnnouncement(bytes, a.rules)).toEqual(said);
    const text = new TextDecoder().decode(bytes);
    const other = await newIdentity();
    const cases = [
      new TextEncoder().encode(text.replace('\\"end\\":3', '\\"end\\":4')),
      await encodeAnnouncement(other, a.membership, said),
      await encodeAnnouncement(a.identity, a.membership, { ...said, peer: other.id }),
      await encodeAnnouncement(a.identity, a.membership, { ...said, layers: { begin: 3, end: 3 } }),
      await encodeAnnouncement(a.identity, a.membership, { ...said, stepMs: Number.NaN }),
      new Uint8Array(40_000),
      new TextEncoder().encode("[]"),
    ];
    for (const bad of cases) await expect(decodeAnnouncement(bad, a.rules)).rejects.toMatchObject({ name: "SwarmError" });
  });

  test("a signature has one way to be written: other spare bits of its last character are refused", async () => {
    const identity = await newIdentity();
    const signed = await sign(identity, "test", { value: 1 });
    const schema = z.strictObject({ value: z.number() });
    expect(await verify(signed, "test", schema)).toEqual({ value: 1 });
    const last = signed.signature.at(-3) ?? "";
    const signature = `${signed.signature.slice(0, -3)}${String.fromCharCode(last.charCodeAt(0) + 1)}==`;
    expect(Buffer.from(signature, "base64")).toEqual(Buffer.from(signed.signature, "base64"));
    await expect(verify({ ...signed, signature }, "test", schema)).rejects.toMatchObject(REFUSED);
  });

  test("10,000 damaged announcements are refused, each by name", async () => {
    const a = await member();
    const bytes = await encodeAnnouncement(a.identity, a.membership, {
      ...serving(0, 3),
      peer: a.identity.id,
      number: 1,
      model: MODEL,
      rtts: {},
    });
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let i = 0; i < 10_000; i++) {
      const bad = bytes.slice(0, random(10) === 0 ? random(bytes.length) : bytes.length);
      for (let k = random(3); k >= 0 && bad.length > 0; k--) bad[random(bad.length)] = (bad[random(bad.length)] ?? 0) ^ (1 + random(255));
      if (bad.length === bytes.length && Buffer.compare(bad, bytes) === 0) continue;
      await expect(decodeAnnouncement(bad, a.rules)).rejects.toMatchObject({ name: "SwarmError" });
    }
  }, 120_000);
});
