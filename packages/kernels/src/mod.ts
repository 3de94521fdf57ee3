export {
  type BatchRows,
  MAX_DRAFTS,
  type Step,
  TOKEN_FROM_SAMPLER,
  batchBytes,
  encodeBatch,
  positionFromFirst,
  positionFromLast,
  positionWithin,
  rowAfterRight,
  tokenFromDraft,
  tokenFromRing,
} from "./batch.ts";
export { type SettleDraftsSpec, settleDrafts, settledBytes } from "./settle/kernel.ts";
export { attendsInSublayer, attentionBoardBytes, attentionSublayer } from "./attentionSublayer/kernel.ts";
export type { AttentionNorms, AttentionSublayerSpec } from "./attentionSublayer/spec.ts";
export { type AttendedRows, attendsTogether, isShortContext, mlaAttend } from "./mlaAttend/kernel.ts";
export type { MlaAttendSpec } from "./mlaAttend/spec.ts";
export { type MlaAttentionSpec, mlaAttention, partialBytes } from "./mlaAttention/kernel.ts";
export { type SplitsRequest, attentionPartialRows, attentionSplits } from "./mlaAttention/splits.ts";
export { attendsInHalves } from "./mlaOutput/halves.ts";
export { type MlaOutputSpec, type ValueHalves, mlaOutput, outputsInHalves } from "./mlaOutput/kernel.ts";
export { type QAbsorbSpec, qAbsorb } from "./qAbsorb/kernel.ts";
export { type KvWriteSpec, kvWrite } from "./kvWrite/kernel.ts";
export type { KvCache, MlaShape, StepBuffers } from "./mla.ts";
export { type KvFormat, type KvRowShape, fp8KvRow, kvRowBytes, kvRowElements } from "./kvRow.ts";
export { ropeTable } from "./ropeTable.ts";
export { type GateManySpec, type PlacedRows, canPlaceRows, gateMany, gatesManyTogether, placeBoardBytes } from "./gateMany/kernel.ts";
export { type ExpertGroup, type ExpertPage, encodeRouting } from "./experts.ts";
export { type ExpertsDownFewSpec, type ExpertsGateUpFewSpec, expertsDownFew, expertsGateUpFew } from "./expertsFew/kernel.ts";
export { type ExpertRows, LOWEST_EXPERT_TILE, expertTileRows } from "./expertsMany/tileRows.ts";
export {
  type ExpertGrouping,
  type ExpertTiles,
  type GatheredHalves,
  type GroupTokensSpec,
  type HiddenHalves,
  expertTiles,
  groupTokens,
  ownBlocks,
} from "./expertsMany/grouping.ts";
export {
  type ExpertsCombineSpec,
  type ExpertsLayout,
  type ExpertsDownManySpec,
  type ExpertsGateUpManySpec,
  expertsCombine,
  expertsDownMany,
  expertsGateUpMany,
  gateUpLayout,
  hiddenLayout,
  placedRowsBytes,
  stripHalvesBytes,
} from "./expertsMany/kernel.ts";
export { type EmbeddingSpec, embedding } from "./embedding/kernel.ts";
export { type ExactAttentionSpec, type ExactOutputSpec, exactAttention, exactOutput, exactQAbsorb } from "./exact/attention.ts";
export { type ExactLinearSpec, exactExpertsDown, exactExpertsGateUp, exactLinear } from "./exact/kernel.ts";
export { type RmsNormSpec, rmsNorm } from "./rmsNorm/kernel.ts";
export { type ExpertSums, type NormOperandsSpec, normOperands } from "./rmsNorm/operands.ts";
export { type GatherRowsSpec, gatherRows } from "./gatherRows/kernel.ts";
export { type ActQuantSpec, type ScaleFormat, actQuant } from "./actQuant/kernel.ts";
export { type MtpInputSpec, mtpInput } from "./mtpInput/kernel.ts";
export { type Fp8NanScanSpec, NAN_COUNTER_STRIDE, fp8NanScan } from "./fp8NanScan/kernel.ts";
export { type DequantizeSpec, dequantize } from "./dequantize/kernel.ts";
export { type HalvesLayout, type HalvesRows, halvesBytes, sameLayout } from "./matrix/halves.ts";
export { type MatmulSpec, matmul, matmulLayout } from "./matmul/kernel.ts";
export { MATVEC_MAX_TOKENS, type MatvecSpec, matvec } from "./matvec/kernel.ts";
export { type GateFewSpec, gateBoardBytes, gateFew, gatesFewTogether } from "./gateFew/kernel.ts";
export { type MoeSublayerSpec, moeBoardBytes, moeRunsWhole, moeSublayer } from "./moeSublayer/kernel.ts";
export { ROUTER_MAX_EXPERTS, type RouterOptions, type RouterSpec, router } from "./router/kernel.ts";
export { MAX_SAMPLED_VOCAB, type SampleSpec, sample, sampleBoardBytes, sampleScratchBytes } from "./sample/kernel.ts";
export {
  FIRST_POSITION_WORD,
  GREEDY,
  type LogitAdjustments,
  MIN_TEMPERATURE,
  SAMPLING_PARAM_WORDS,
  type SamplingParams,
  adjustsLogits,
  penalizes,
  encodeSamplingParams,
} from "./sample/params.ts";
export { type AdjustLogitsSpec, type CountTokensSpec, TOKEN_IN_PROMPT, adjustLogits, countTokens, maskRowWords } from "./adjust/kernel.ts";
export { LOGPROBS_WORDS, type LogprobsSpec, NO_TOKEN, TOP_LOGPROBS, logprobs } from "./logprobs/kernel.ts";
export {
  CHUNK,
  FORMAT_BYTES,
  SCALE_BLOCK,
  type WeightFormat,
  type WeightMatrix,
  type WeightPart,
  formatConstants,
  matrixBytes,
  reductionConstants,
  roundUp,
} from "./weights.ts";
