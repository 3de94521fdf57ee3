/**
 * Who belongs to a swarm. The swarm's key signs invites; an invite holds a key of its own, with which whoever has the invite signs its peer's membership. So nobody has to be
 * asked when a peer joins, and the swarm's owner need not be there. The owner can expel a peer, or an invite with all who came by it: the list is signed by the swarm's key and
 * only grows in number.
 *
 * Two peers prove themselves to one another before anything else is said, over a stream that libp2p has encrypted to the other's key: each signs the other's fresh nonce, both
 * names and the swarm, so that no proof is good a second time or for somebody else.
 */
import { z } from "zod";
import { SwarmError } from "../errors.ts";
import { parseJson } from "../json.ts";
import { type Identity, type Signed, peerIdSchema, sign, signedSchema, toBase64, verify } from "./identity.ts";

/** Clocks of peers may differ by so much. */
export const CLOCK_SKEW_MS = 10 * 60_000;
/** Each of peers and invites: a list of both fits one message. */
const MAX_EXPELLED = 500;
const NONCE_BYTES = 32;
const seconds = z
  .int()
  .min(0)
  .max(2 ** 40);

const inviteSchema = z.strictObject({ swarm: peerIdSchema, invite: peerIdSchema, notAfter: seconds });
const memberSchema = z.strictObject({ swarm: peerIdSchema, peer: peerIdSchema });
const proofSchema = z.strictObject({ swarm: peerIdSchema, from: peerIdSchema, to: peerIdSchema, nonce: z.string().length(44) });
const expulsionSchema = z.strictObject({
  swarm: peerIdSchema,
  number: z.int().min(1),
  peers: z.array(peerIdSchema).max(MAX_EXPELLED),
  invites: z.array(peerIdSchema).max(MAX_EXPELLED),
});

/** What a member shows: the swarm vouches for the invite, the invite for the peer. */
export const membershipSchema = z.strictObject({ invite: signedSchema, member: signedSchema });
export type Membership = z.infer<typeof membershipSchema>;

export function certifyInvite(swarm: Identity, invite: string, notAfterMs: number): Promise<Signed> {
  return sign(swarm, "invite", { swarm: swarm.id, invite, notAfter: Math.floor(notAfterMs / 1000) });
}

export async function joinAs(peer: string, swarm: string, invite: Identity, certificate: Signed): Promise<Membership> {
  return { invite: certificate, member: await sign(invite, "member", { swarm, peer }) };
}

/** Who is not a member any more. */
export class Expulsions {
  readonly #swarm: string;
  #number = 0;
  #signed: Signed | undefined;
  #peers = new Set<string>();
  #invites = new Set<string>();

  constructor(swarm: string) {
    this.#swarm = swarm;
  }

  /** The newest list, for those who have none. */
  get signed(): Signed | undefined {
    return this.#signed;
  }

  /** @returns whether it was news. @throws SwarmError for one that the swarm's key has not signed */
  async take(signed: Signed): Promise<boolean> {
    if (signed.by !== this.#swarm)
      throw new SwarmError("not-a-member", `Cannot take an expulsion by '${signed.by}', expected one by the swarm's own key`);
    const list = await verify(signed, "expulsions", expulsionSchema);
    if (list.swarm !== this.#swarm || list.number <= this.#number) return false;
    this.#number = list.number;
    this.#signed = signed;
    this.#peers = new Set(list.peers);
    this.#invites = new Set(list.invites);
    return true;
  }

  /** For the owner: a list with more on it. */
  async expel(swarm: Identity, more: { readonly peers?: readonly string[]; readonly invites?: readonly string[] }): Promise<Signed> {
    const peers = [...new Set([...this.#peers, ...(more.peers ?? [])])];
    const invites = [...new Set([...this.#invites, ...(more.invites ?? [])])];
    if (peers.length > MAX_EXPELLED || invites.length > MAX_EXPELLED)
      throw new SwarmError(
        "overloaded",
        `Cannot expel ${peers.length} peers and ${invites.length} invites, expected at most ${MAX_EXPELLED} of each: begin a new swarm`,
      );
    return sign(swarm, "expulsions", { swarm: swarm.id, number: this.#number + 1, peers, invites });
  }

  has(peer: string, invite?: string): boolean {
    return this.#peers.has(peer) || (invite !== undefined && this.#invites.has(invite));
  }
}

export interface MembershipRules {
  readonly swarm: string;
  readonly expulsions: Expulsions;
  /** Milliseconds since 1970, by this machine. */
  readonly wallClock?: () => number;
}

/** @throws SwarmError not-a-member or malformed */
export async function checkMembership(membership: Membership, peer: string, rules: MembershipRules): Promise<void> {
  const { swarm, expulsions, wallClock = Date.now } = rules;
  const refuse = (why: string): never => {
    throw new SwarmError("not-a-member", `Cannot take '${peer}' for a member: ${why}`);
  };
  if (membership.invite.by !== swarm) refuse("its invite is of another swarm");
  const invite = await verify(membership.invite, "invite", inviteSchema);
  const member = await verify(membership.member, "member", memberSchema);
  if (invite.swarm !== swarm || member.swarm !== swarm) refuse("it belongs to another swarm");
  if (membership.member.by !== invite.invite) refuse("its membership is not signed by its invite");
  if (member.peer !== peer) refuse(`its membership is that of '${member.peer}'`);
  if (wallClock() > invite.notAfter * 1000 + CLOCK_SKEW_MS) refuse("its invite has run out");
  if (expulsions.has(peer, invite.invite)) refuse("it was expelled");
}

/** Texts between two peers, in order; libp2p's streams in the end. */
export interface TextChannel {
  send(text: string): void;
  /** @throws SwarmError link-lost when there are no more */
  receive(): Promise<string>;
}

const helloSchema = z.strictObject({
  nonce: z.string().length(44),
  membership: membershipSchema,
  expulsions: signedSchema.optional(),
});
const answerSchema = z.strictObject({ proof: signedSchema });

/**
 * Both ends do the same. Resolves when the other has proven to be a member.
 * @param remote whose key the channel is encrypted to
 * @throws SwarmError
 */
export async function proveMembership(
  channel: TextChannel,
  own: { readonly identity: Identity; readonly membership: Membership },
  remote: string,
  rules: MembershipRules,
): Promise<Membership> {
  const { swarm, expulsions } = rules;
  const nonce = toBase64(crypto.getRandomValues(new Uint8Array(NONCE_BYTES)));
  channel.send(JSON.stringify({ nonce, membership: own.membership, ...(expulsions.signed && { expulsions: expulsions.signed }) }));
  const hello = parseJson(await channel.receive(), helloSchema, "a greeting");
  // Whoever was expelled while this peer was away shall not profit from it.
  if (hello.expulsions) await expulsions.take(hello.expulsions);
  await checkMembership(hello.membership, remote, rules);
  const proof = await sign(own.identity, "proof", { swarm, from: own.identity.id, to: remote, nonce: hello.nonce });
  channel.send(JSON.stringify({ proof }));
  const answer = parseJson(await channel.receive(), answerSchema, "a proof");
  const said = await verify(answer.proof, "proof", proofSchema);
  if (answer.proof.by !== remote || said.from !== remote || said.to !== own.identity.id || said.swarm !== swarm || said.nonce !== nonce)
    throw new SwarmError("not-a-member", `Cannot take '${remote}' for a member: its proof is not for this moment`);
  return hello.membership;
}
