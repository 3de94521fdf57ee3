export { Engine, createEngine, type EngineOptions, type RequestOptions } from "./engine.ts";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatMessage,
  CompletionFinish,
  CompletionTimings,
  CompletionUsage,
  DownloadProgress,
  ModelCheck,
} from "./protocol.ts";
