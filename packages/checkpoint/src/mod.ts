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
export { CheckpointError, ConfigError, type CheckpointErrorCode } from "./error.ts";
export { parseHfConfig } from "./hf-config.ts";
export { isDemoConfig, parseDemoConfig } from "./demo-config.ts";
export {
  cosSinScale,
  kvBytesPerToken,
  kvValuesPerLayer,
  ropeInvFreq,
  softmaxScale,
  yarnCorrectionRange,
  type KvFormat,
} from "./derived.ts";
export { parseConfig, parseConfigText } from "./parse-config.ts";
export { tensorSchema, type TensorRole, type TensorSpec } from "./tensor-schema.ts";
