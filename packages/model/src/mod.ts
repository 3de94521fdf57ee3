export { NO_TOKEN, TOP_LOGPROBS, penalizes } from "@shoal/kernels";
export { DECODE_TOKENS } from "./activations.ts";
export { ModelError, type ModelErrorCode, isLoss } from "./errors.ts";
export { type KvFormat, type KvRowShape, kvRowBytes } from "@shoal/kernels";
export { KV_BLOCK_SIZE, type KvBlock, type SequenceSlot } from "./kvCache.ts";
export { type ExpectedRows, flawOfKv } from "./kvRows.ts";
export type { KvRange, KvSnapshot } from "./kvTransfer.ts";
export {
  DEFAULT_CONTEXT_TOKENS,
  DEFAULT_MAX_OUTPUTS,
  DEFAULT_MAX_TOKENS,
  LocalStage,
  type LocalStageOptions,
  type StagePlan,
  loadLocalStage,
  stagePlan,
} from "./localStage.ts";
export type { MtpRecycling } from "./programs.ts";
export type { NumericMode } from "./recorder.ts";
export { type MemoryRequirements, type RunShape, checkAdapter, memoryRequirements } from "./requirements.ts";
export {
  type Batch,
  type BatchEntry,
  type Capture,
  type ChosenLogprobs,
  type RoutingCapture,
  type SamplingParameters,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
  toldRows,
} from "./stage.ts";
export type { LoadProgress } from "./weights/reader.ts";
export type { LayerRange } from "./weights/model.ts";
export { ExpertCache } from "./experts/expertCache.ts";
export { ExpertReader, type ExpertShape } from "./experts/expertImage.ts";
export { type ExpertCall, type ExpertShard, type ExpertShardDescription, NO_EXPERT } from "./experts/expertShard.ts";
export {
  DEFAULT_SHARD_TOKENS,
  LocalExpertShard,
  type LocalExpertShardOptions,
  type PagingStats,
  loadLocalExpertShard,
} from "./experts/localExpertShard.ts";
export { expertBytes, shardActivationBytes } from "./experts/footprint.ts";
export { type FootprintOptions, weightBytes } from "./weights/footprint.ts";
