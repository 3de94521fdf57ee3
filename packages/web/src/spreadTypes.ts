/** What is asked for and given where a model may go to two GPUs. */
import type { CheckpointSource } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import type { LoadProgress, LocalStage, LocalStageOptions, Stage } from "@shoal/model";
import type { Spread } from "./protocol.ts";
import type { SecondDevice } from "./secondDevice.ts";

export interface SpreadRequest {
  /** A new one where the last was destroyed. */
  readonly openGpu: () => Promise<GpuContext>;
  readonly checkpoint: CheckpointSource;
  readonly options: LocalStageOptions;
  readonly spread: Spread;
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
}
