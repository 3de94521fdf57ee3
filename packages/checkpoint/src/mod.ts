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
