/** What owns the device of a peer that contributes, as the peer sees it. */
import type { FrameChannel } from "@shoal/cluster";
import type { ExpertShard, LayerRange } from "@shoal/model";
import type { HeldExperts } from "../experts/messages.ts";
import type { DeviceSpeed } from "../plan/experts.ts";
import type { SwarmMember } from "./entry.ts";

export interface StageSizes {
  readonly contextTokens: number;
  readonly maxSequences: number;
  readonly kvTokens: number;
  /** Whether the MTP module comes with the layers, which are the last. */
  readonly mtp: boolean;
}

/** Routed experts of a stage that are held elsewhere. */
export interface ElsewhereExperts {
  /** How many of each MoE layer are the device's own, from the first on. */
  readonly own: number;
  /** The others. */
  readonly shard: ExpertShard;
}

/** A device with room for one stage, or for experts of another's. */
export interface StageHost {
  /** From the member's files, which have been fetched. */
  load(layers: LayerRange, sizes: StageSizes, member: SwarmMember, elsewhere?: ElsewhereExperts): Promise<void>;
  /** The same of routed experts for a stage of another peer. */
  loadExperts(held: HeldExperts, member: SwarmMember): Promise<ExpertShard>;
  /** What it reads, and how long a readback takes. */
  measure(): Promise<DeviceSpeed>;
  /** A new channel to the loaded stage, for one user. */
  connect(): Promise<FrameChannel>;
  unload(): Promise<void>;
}
