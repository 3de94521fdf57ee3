/** What is asked for and given where a model may go to two GPUs. */
import type { CheckpointSource } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import type { LoadProgress, LocalExpertShard, LocalStage, LocalStageOptions, Stage } from "@shoal/model";
import type { Spread } from "./protocol.ts";
import type { SecondDevice } from "./secondDevice.ts";

export interface SpreadRequest {
  /** A new one where the last was destroyed. */
  readonly openGpu: () => Promise<GpuContext>;
  readonly checkpoint: CheckpointSource;
  readonly options: LocalStageOptions;
  readonly spread: Spread;
  /** Of the GPU for routed experts, the others being read when they are needed. Undefined: all, or as many as fit where memory runs out. */
  readonly expertBytes?: number | undefined;
  readonly openSecond: (() => Promise<SecondDevice | undefined>) | undefined;
  readonly onProgress: ((progress: LoadProgress) => void) | undefined;
}

export interface SpreadStage {
  readonly gpu: GpuContext;
  /** What is on the first GPU. */
  readonly stage: LocalStage;
  readonly second: SecondDevice | undefined;
  /** The model. */
  readonly whole: Stage;
  /** Where not all experts are on the GPU. Experts are read from the checkpoint as long as the stage lives. */
  readonly paged?: PagedExperts;
}

export interface PagedExperts {
  readonly experts: LocalExpertShard;
  /** Of the GPU, for experts; and what all would take. */
  readonly expertBytes: number;
  readonly allBytes: number;
}
