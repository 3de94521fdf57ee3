/** What can go wrong before a model answers, besides what the packages below throw. Errors cross the worker by `name`, so callers go by that. */
export type WebErrorName = "DownloadError" | "ManifestError" | "SourceError" | "QuotaError" | "RequestError" | "BusyError";

export class WebError extends Error {
  override readonly name: WebErrorName;

  constructor(name: WebErrorName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = name;
  }
}

/** A request that was answered with an error: by the engine in the worker as by a server, in OpenAI's words. */
export class ApiRequestError extends Error {
  override readonly name = "ApiRequestError";
  /** 0 where the error came within a stream, or the server could not be reached. */
  readonly status: number;
  readonly code: string | null;
  /** The field of the request that is wrong. */
  readonly param: string | null;

  constructor(
    message: string,
    details: { readonly status: number; readonly code?: string | null; readonly param?: string | null },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.status = details.status;
    this.code = details.code ?? null;
    this.param = details.param ?? null;
  }
}
