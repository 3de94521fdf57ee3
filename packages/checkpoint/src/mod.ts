export {
  CONFIG_LIMITS,
  LATENT_NORM_EPS,
  type ModelConfig,
  type ModelType,
  type Quantization,
  type RopeScaling,
  type ScoreFunc,
  type TopkMethod,
} from "./config.ts";
export { isDemoConfig, parseDemoConfig } from "./demo-config.ts";
export { toDemoName, toHfName } from "./demo-names.ts";
export {
  cosSinScale,
  kvBytesPerToken,
  kvValuesPerLayer,
  ropeInvFreq,
  softmaxScale,
  yarnCorrectionRange,
  type KvFormat,
} from "./derived.ts";
export { CheckpointError, ConfigError, type CheckpointErrorCode } from "./error.ts";
export { DEFAULT_HUB_ENDPOINT, hubBaseUrl, httpFiles, isHubId, pickedFiles, type CheckpointFiles, type HubOptions } from "./files.ts";
export { parseHfConfig } from "./hf-config.ts";
export type { CheckpointLayout } from "./layout.ts";
export { openCheckpoint, type CheckpointLocation, type CheckpointSource, type GenerationConfig, type OpenOptions } from "./open.ts";
export { parseConfig, parseConfigText } from "./parse-config.ts";
export { memoryNeeded, summarize, type CheckpointSummary, type MemoryNeed, type TensorKind } from "./summarize.ts";
export { tensorSchema, type TensorRole, type TensorSpec } from "./tensor-schema.ts";
export { validateCheckpoint, type ValidationReport } from "./validate.ts";
