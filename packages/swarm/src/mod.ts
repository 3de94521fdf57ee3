export { type Clock, SYSTEM_CLOCK } from "./clock.ts";
export { type Announcement } from "./control/announcement.ts";
export { Directory, type KnownPeer } from "./control/directory.ts";
export { type Identity, identityFromText, identityToText, isPeerId, newIdentity } from "./control/identity.ts";
export { type Invite, inviteFromText, inviteToText, newInvite } from "./control/invite.ts";
export { type Libp2pOptions, libp2pRendezvous } from "./control/libp2pRendezvous.ts";
export { type Membership, joinAs } from "./control/membership.ts";
export { MemoryNetwork, type Rendezvous } from "./control/rendezvous.ts";
export { topicOf } from "./control/topic.ts";
export { SwarmError, type SwarmErrorCode } from "./errors.ts";
export type { Lane, LaneEvents } from "./link/lane.ts";
export type { Link, LinkStats } from "./link/link.ts";
export { memoryLanes, type MemoryLane } from "./link/memoryLane.ts";
export { portLane } from "./link/portLane.ts";
export { brokeredNegotiators } from "./link/rtcBroker.ts";
export type { MakeNegotiator, Negotiator, NegotiatorEvents, RtcOptions, Signal } from "./link/rtcNegotiator.ts";
export { StripedLink, type StripedLinkOptions } from "./link/stripedLink.ts";
export { LANES, type LinkPurpose, Peers, type PeersOptions } from "./peers.ts";
export { type Hop, choosePath } from "./plan/path.ts";
export { chooseRange, gaps, missingLayers } from "./plan/range.ts";
export { type Fault, HopFault, type ModelShape, type OpenedHop } from "./pipeline/hop.ts";
export type { ObservedStep } from "./pipeline/step.ts";
export { SwarmStage, type SwarmStageOptions } from "./pipeline/swarmStage.ts";
export { linkChannel } from "./link/linkChannel.ts";
export { type ChunkSource, ChunkedFiles, type ChunkStore, filesSource } from "./weights/chunkedFiles.ts";
export { ChunkClient, type ChunkOffer, serveChunks } from "./weights/exchange.ts";
export { MAX_MANIFEST_BYTES, type Manifest, type NamedManifest, makeManifest, parseManifest } from "./weights/manifest.ts";
export { neededChunks } from "./weights/needed.ts";
export { Auditor, type AuditorOptions } from "./pipeline/audit.ts";
export { type DeviceSpeed, type ExpertRange, LAN_RTT_MS, type Sharing, shareExperts } from "./plan/experts.ts";
export type { HeldExperts } from "./experts/messages.ts";
export {
  type EntryOptions,
  type ManifestStore,
  type StageLink,
  type SwarmMember,
  type WholeModel,
  enterSwarm,
  savedManifest,
} from "./member/entry.ts";
export { type ClientOptions, type OwnStage, announceClient, openSwarmStage } from "./member/client.ts";
export { Contribution, type ContributionOptions, type ContributionPhase } from "./member/contribution.ts";
export type { ElsewhereExperts, StageHost, StageSizes } from "./member/stageHost.ts";
