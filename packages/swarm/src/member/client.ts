/** Using a swarm: the model over a path of its peers, as one `Stage`. Needs no GPU. */
import { type ActivationFormat, Caller, type FrameChannel, RemoteStage, remoteStage } from "@shoal/cluster";
import type { KnownPeer } from "../control/directory.ts";
import { linkChannel } from "../link/linkChannel.ts";
import { Auditor } from "../pipeline/audit.ts";
import type { Fault, ModelShape, OpenedHop } from "../pipeline/hop.ts";
import { Spares } from "../pipeline/spares.ts";
import { SwarmStage } from "../pipeline/swarmStage.ts";
import { type Hop, choosePath } from "../plan/path.ts";
import { gaps } from "../plan/range.ts";
import type { Peers } from "../peers.ts";
import { remotePushing } from "../push/remotePushing.ts";

/** What this peer contributes itself: a hop without a link. */
export interface OwnStage {
  readonly known: KnownPeer;
  connect(): Promise<FrameChannel>;
}

export interface ClientOptions {
  readonly kind: "deno" | "browser";
  readonly activations?: ActivationFormat;
  /** Asked whenever a path is chosen. */
  readonly own?: () => OwnStage | undefined;
  /** Layers are missing, and are waited for. */
  readonly onWait?: (what: string, patienceMs: number) => void;
  /** A peer has left, and another goes on with what it had of conversations. */
  readonly onHandover?: (peer: string, successor: string) => void;
  readonly onFault?: (peer: string, fault: Fault, error: Error) => void;
  /** Of the steps, how many are computed again by a second peer; `AUDIT_SHARE` by default. */
  readonly auditShare?: number;
  /** It answered wrongly, and is banned. */
  readonly onLiar?: (peer: string, reason: string) => void;
}

/** Of a link that is only kept ready. */
const SPARE_LANES = 1;

/** A peer that holds no layers says so. */
export function announceClient(peers: Peers, kind: ClientOptions["kind"]): void {
  const nothing = { layers: null, memoryBytes: 0, stepMs: 0, load: 0, freeKvTokens: 0, tokensPerSecond: 0 };
  peers.announce({ started: Date.now(), state: "client", ...nothing, kind });
}

/** The stage and the pushing of a peer at the other end of a channel. */
export function openedOver(channel: FrameChannel, peer: string, hiddenSize: number, activations: ActivationFormat): OpenedHop {
  const caller = new Caller(channel, { peer, silenceMs: Number.POSITIVE_INFINITY });
  const remote = new RemoteStage({ caller, target: 0 }, { activations }, true);
  return {
    stage: remote,
    forwardTold: (batch) => remote.forwardTold(batch),
    forwardDrafted: (batch, drafting) => remote.forwardDrafted(batch, drafting),
    pushing: remotePushing(caller, hiddenSize, activations),
    lost: remote.lost,
    close: () => channel.close("not needed any more"),
  };
}

/** @throws SwarmError incomplete where layers are missing for longer than it waits */
export async function openSwarmStage(
  { peers, checkpoint: { config } }: { readonly peers: Peers; readonly checkpoint: { readonly config: ModelShape } },
  { activations = "f32", own = () => undefined, auditShare, onWait, onHandover, onFault, onLiar }: Omit<ClientOptions, "kind">,
  signal?: AbortSignal,
): Promise<SwarmStage> {
  const { nLayers, hiddenSize, vocabSize, kvLoraRank, qkRopeHeadDim } = config;
  const shape = { nLayers, hiddenSize, vocabSize, kvLoraRank, qkRopeHeadDim };
  const known = (): readonly KnownPeer[] => {
    const mine = own();
    return mine ? [...peers.directory.peers(), mine.known] : peers.directory.peers();
  };
  const openOwn = async (stage: OwnStage): Promise<OpenedHop> => {
    const channel = await stage.connect();
    const remote = remoteStage(channel, { peer: peers.id, silenceMs: Number.POSITIVE_INFINITY });
    return {
      stage: remote,
      forwardTold: (batch) => remote.forwardTold(batch),
      forwardDrafted: (batch, drafting) => remote.forwardDrafted(batch, drafting),
      lost: remote.lost,
      close: () => channel.close("not needed any more"),
    };
  };
  const spares = new Spares({ connect: (peer) => peers.connect(peer, "stage", signal, SPARE_LANES) });
  const open = async (hop: Hop): Promise<OpenedHop> => {
    const mine = hop.peer === peers.id ? own() : undefined;
    if (mine) return openOwn(mine);
    const spare = spares.take(hop.peer);
    if (spare) peers.widen(spare);
    const link = spare ?? (await peers.connect(hop.peer, "stage", signal));
    return {
      ...openedOver(linkChannel(link), hop.peer, shape.hiddenSize, activations),
      silentMs: () => link.stats().silentMs,
      close: () => link.close("not needed any more"),
    };
  };
  const auditor = new Auditor({
    ...shape,
    open,
    ...(auditShare !== undefined && { share: auditShare }),
    others: ({ layers: { begin, end } }) =>
      peers.directory
        .peers()
        .filter(({ layers, state }) => state === "serving" && layers?.begin === begin && layers.end === end)
        .sort((a, b) => a.load - b.load)
        .map(({ peer }) => ({ peer, layers: { begin, end } })),
    onLiar: (peer, reason) => {
      peers.ban(peer, reason);
      onLiar?.(peer, reason);
    },
  });
  return SwarmStage.open({
    ...shape,
    open,
    onStep: auditor.observe,
    prepare: (others) => spares.want(new Set([...others].filter((peer) => peer !== peers.id))),
    plan: ({ layers, without }) => {
      const rtts = peers.rtts();
      const rttMs = (peer: string): number | undefined => (peer === peers.id ? 0 : rtts.get(peer));
      return choosePath({ nLayers: config.nLayers, peers: known(), rttMs, layers, without });
    },
    missing: ({ layers: { begin, end }, without }) => {
      const held = known().flatMap(({ peer, state, layers }) => (layers && state === "serving" && !without.has(peer) ? [layers] : []));
      // Up to where the part begins there is a path.
      return gaps(end, begin > 0 ? [...held, { begin: 0, end: begin }] : held);
    },
    ...(onWait && { onWait }),
    isLeaving: (peer) => peers.directory.get(peer)?.state === "leaving",
    ...(onHandover && { onHandover }),
    onFault: (peer, fault, error) => {
      if (fault === "lied") peers.ban(peer, error.message);
      else if (fault !== "full" && fault !== "doubted") peers.directory.forget(peer);
      onFault?.(peer, fault, error);
    },
  });
}
