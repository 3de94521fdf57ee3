/** A swarm of peers in one thread, on a clock of the test's own. */
import { type Announcement } from "../src/control/announcement.ts";
import { type Identity, newIdentity } from "../src/control/identity.ts";
import { type Invite, newInvite } from "../src/control/invite.ts";
import { joinAs } from "../src/control/membership.ts";
import { MemoryNetwork } from "../src/control/rendezvous.ts";
import { Peers, type PeersOptions } from "../src/peers.ts";
import { SimulatedClock } from "./simulatedClock.ts";

export const MODEL = "ab".repeat(32);
export const OTHER_MODEL = "cd".repeat(32);

export interface TestSwarm {
  readonly clock: SimulatedClock;
  readonly network: MemoryNetwork;
  readonly owner: Identity;
  readonly invite: Invite;
  join(options?: Partial<PeersOptions> & { readonly invite?: Invite }): Promise<Peers>;
}

export async function testSwarm(delayMs: () => number = () => 5): Promise<TestSwarm> {
  const clock = new SimulatedClock();
  const network = new MemoryNetwork(clock, delayMs);
  const owner = await newIdentity();
  const about = { relays: [`/ip4/127.0.0.1/tcp/1/ws/p2p/${owner.id}`], manifestDigest: MODEL, modelName: "tiny" };
  const invite = await newInvite(owner, about);
  return {
    clock,
    network,
    owner,
    invite,
    async join({ invite: by = invite, ...options } = {}) {
      const identity = options.identity ?? (await newIdentity());
      const membership = options.membership ?? (await joinAs(identity.id, by.swarm, by.identity, by.certificate));
      return new Peers({
        identity,
        membership,
        swarm: owner.id,
        model: MODEL,
        clock,
        rendezvous: options.rendezvous ?? network.join(identity.id),
        ...options,
      });
    },
  };
}

export function serving(begin: number, end: number, more: Partial<Announcement> = {}) {
  return {
    started: 1,
    state: "serving" as const,
    layers: { begin, end },
    memoryBytes: 1e9,
    stepMs: 10,
    load: 0,
    freeKvTokens: 4096,
    tokensPerSecond: 0,
    kind: "deno" as const,
    ...more,
  };
}
