/** What can go wrong before a model answers, besides what the packages below throw. Errors cross the worker by `name`, so callers go by that. */
export type WebErrorName = "DownloadError" | "ManifestError" | "QuotaError" | "RequestError";

export class WebError extends Error {
  override readonly name: WebErrorName;

  constructor(name: WebErrorName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = name;
  }
}
