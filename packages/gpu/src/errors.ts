/**
 * What can go wrong with a GPU, one class per thing that a caller would handle differently. Nothing else leaves this package: WebGPU's own
 * error objects are wrapped, with the original as `cause`.
 */

export type GpuErrorName =
  | "NoAdapterError"
  | "AdapterLimitError"
  | "ShaderError"
  | "GpuValidationError"
  | "GpuOutOfMemoryError"
  | "GpuInternalError"
  | "DeviceLostError"
  | "BindingError";

export class GpuError extends Error {
  override readonly name: GpuErrorName;
  constructor(name: GpuErrorName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = name;
  }
}

/** No WebGPU adapter: no driver, or none that the engine accepts. */
export class NoAdapterError extends GpuError {
  constructor(engine: string, hint: string) {
    super("NoAdapterError", `Cannot find a GPU adapter through ${engine}: ${hint}`);
  }
}

/** The adapter is too small for what was asked. */
export class AdapterLimitError extends GpuError {
  readonly limit: string;
  readonly needed: number;
  readonly available: number;
  constructor(what: string, limit: string, needed: number, available: number, hint = "") {
    super("AdapterLimitError", `Cannot ${what}: it needs ${limit} of ${needed}, this adapter has ${available}${hint && `; ${hint}`}`);
    this.limit = limit;
    this.needed = needed;
    this.available = available;
  }
}

/** A WGSL source that could not be assembled or compiled. Always a defect of ours or of the engine, never of the user's input. */
export class ShaderError extends GpuError {
  readonly shader: string;
  constructor(shader: string, detail: string, options?: ErrorOptions) {
    super("ShaderError", `Cannot compile shader '${shader}': ${detail}`, options);
    this.shader = shader;
  }
}

export class DeviceLostError extends GpuError {
  readonly reason: string;
  constructor(reason: string, detail: string) {
    super("DeviceLostError", `Cannot go on: the GPU device was lost (${reason || "unknown"})${detail && `: ${detail}`}`);
    this.reason = reason;
  }
}

/** Wraps what an error scope or `uncapturederror` gave. */
export function fromWebGpuError(error: GPUError, doing: string): GpuError {
  const kind = error.constructor.name;
  const message = `Cannot ${doing}: ${error.message.trim()}`;
  const options = { cause: error };
  if (kind === "GPUOutOfMemoryError") return new GpuError("GpuOutOfMemoryError", message, options);
  if (kind === "GPUInternalError") return new GpuError("GpuInternalError", message, options);
  return new GpuError("GpuValidationError", message, options);
}
