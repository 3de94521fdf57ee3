export { type Api, createApi, type RequestContext } from "./api.ts";
export { ApiError, errorResponse } from "./errors.ts";
export { type ApiLimits, DEFAULT_LIMITS } from "./limits.ts";
export { openApiDocument } from "./openapi.ts";
export type { ApiOptions, RequestRecord, ServedModel } from "./options.ts";
