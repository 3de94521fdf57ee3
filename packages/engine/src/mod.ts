export { untilAborted } from "./abort.ts";
export { ChatSession, type ChatSessionOptions, type ChatTurn, type SendOptions } from "./chatSession.ts";
export { Engine, type EngineOptions } from "./engine.ts";
export { EngineError, type EngineErrorCode } from "./errors.ts";
export type { FinishReason, GenerationRequest, GenerationResult, GenerationTimings, TokenGenerator } from "./generation.ts";
export { Generator } from "./generator.ts";
export type * from "./request.ts";
export { GREEDY, samplingOf, type SamplingWish } from "./sampling.ts";
export { stopTokenIds } from "./stopTokens.ts";
