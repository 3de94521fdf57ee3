export {
  type ChatBackend,
  type ChatCompletion,
  type ChatCompletionChunk,
  type ChatCompletionRequest,
  type ChatCompletions,
  type ChatMessage,
  type ClientOptions,
  type CompletionTimings,
  createClient,
  type RequestOptions,
} from "./client.ts";
export { Engine, createEngine, type EngineOptions } from "./engine.ts";
export { ApiRequestError, WebError, type WebErrorName } from "./errors.ts";
export { type DeviceFacts, type Fit, fitOf } from "./fit.ts";
export { KNOWN_MODELS, type KnownModel } from "./knownModels.ts";
export type {
  DownloadProgress,
  Inspection,
  LayerRouting,
  LoadOptions,
  LoadProgress,
  ModelCheck,
  ModelSource,
  PagingView,
  RoutingView,
} from "./protocol.ts";
export { sourceName, sourceOf } from "./sources.ts";
export type { KernelTime, KernelTimes } from "@shoal/model/profile";
export { deleteModel, type StoredModel, storedModels } from "./storage.ts";
