export { type Api, createApi, type RequestContext } from "./api.ts";
export { ApiError, type ErrorBody, errorResponse } from "./errors.ts";
export { type ApiLimits, DEFAULT_LIMITS } from "./limits.ts";
export { openApiDocument } from "./openapi.ts";
export type { ApiOptions, ExpertPaging, RequestRecord, ServedModel } from "./options.ts";
export type { ChatCompletion, ChatCompletionChunk, ModelEntry, Usage } from "./schemas/answers.ts";
export type { ChatRequestInput } from "./schemas/chat.ts";
