/**
 * One opened GPU device: its dialect and limits, its compiled kernels, its memory, and its failures.
 *
 * Failures reach whoever waits next: errors that no scope caught, and the loss of the device, make `check()` and every later `read` throw.
 * Knows nothing of models.
 */
import type { ShaderConstants } from "./assemble.ts";
import { assembleShader } from "./assemble.ts";
import type { Dialect } from "./dialect.ts";
import { AdapterLimitError, DeviceLostError, type GpuError, ShaderError, fromWebGpuError } from "./errors.ts";
import { BindGroupCache } from "./bindGroups.ts";
import { Kernel } from "./kernel.ts";
import { type BufferRequest, MemoryLedger, type MemoryKind, alignedSize } from "./memory.ts";
import { type Command, encodeCommands } from "./program.ts";
import { reflectBindings } from "./reflect.ts";

export interface AdapterDescription {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** Runs on the CPU: right, but slow. */
  readonly isSoftware: boolean;
}

export interface GpuContextOptions {
  readonly device: GPUDevice;
  readonly adapter: AdapterDescription;
  readonly dialect: Dialect;
  readonly sources: ReadonlyMap<string, string>;
  /** Names of kernel variants by operation, as measured on this adapter. The context only carries them. */
  readonly choices?: ReadonlyMap<string, string>;
  /** How to await this implementation's promises. */
  readonly wait?: <T>(promise: Promise<T>) => Promise<T>;
  /** How to map a readback buffer, where that is not to await `mapAsync`. */
  readonly map?: ((staging: GPUBuffer) => Promise<void>) | undefined;
  /** Whatever must stay referenced as long as the device lives: Dawn crashes when its instance is collected. */
  readonly owner?: unknown;
}

/** What was made since the context was opened; tests hold a warm step to zero. */
export interface CreationCounts {
  readonly buffers: number;
  readonly bindGroups: number;
  readonly pipelines: number;
  readonly submits: number;
}

/** Of readback buffers, which are dear to make and to map for the first time: those of small reads are kept, a few of each size. */
const KEPT_STAGING_BYTES = 65_536;
const KEPT_STAGING_LEAST = 256;
const KEPT_STAGING = 2;

export class GpuContext {
  readonly device: GPUDevice;
  readonly queue: GPUQueue;
  readonly adapter: AdapterDescription;
  readonly dialect: Dialect;
  readonly limits: GPUSupportedLimits;
  readonly choices: ReadonlyMap<string, string>;
  readonly memory = new MemoryLedger();
  /** Settles when the device is gone; never rejects. */
  readonly lost: Promise<DeviceLostError>;
  readonly owner: unknown;
  readonly #wait: <T>(promise: Promise<T>) => Promise<T>;
  readonly #map: (staging: GPUBuffer) => Promise<void>;
  /** Small readback buffers not in use, by their size, which is a power of two. */
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #sources: ReadonlyMap<string, string>;
  readonly #kernels = new Map<string, Promise<Kernel>>();
  readonly #buffers = new Map<GPUBuffer, { kind: MemoryKind; size: number }>();
  readonly #bindGroups: BindGroupCache;
  readonly #counts = { buffers: 0, pipelines: 0, submits: 0 };
  #failure: GpuError | undefined;
  #destroyed = false;

  constructor({ device, adapter, dialect, sources, choices, owner, map, wait = (promise) => promise }: GpuContextOptions) {
    this.device = device;
    this.queue = device.queue;
    this.adapter = adapter;
    this.dialect = dialect;
    this.limits = device.limits;
    this.choices = choices ?? new Map();
    this.owner = owner;
    this.#bindGroups = new BindGroupCache(device);
    this.#wait = wait;
    this.#map = map ?? ((staging) => wait(staging.mapAsync(GPUMapMode.READ)));
    this.#sources = sources;
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault?.();
      this.#failure ??= fromWebGpuError(event.error, "run GPU work");
    });
    this.lost = device.lost.then((info) => {
      const error = new DeviceLostError(this.#destroyed ? "destroyed" : info.reason, info.message);
      if (!this.#destroyed) this.#failure = error;
      return error;
    });
  }

  get counts(): CreationCounts {
    return { ...this.#counts, bindGroups: this.#bindGroups.created };
  }

  /** @throws the first error that no scope caught, or DeviceLostError. */
  check(): void {
    if (this.#failure) throw this.#failure;
    if (this.#destroyed) throw new DeviceLostError("destroyed", "the context was closed");
  }

  /**
   * Runs `work` under error scopes.
   * @throws GpuError: GpuValidationError, GpuOutOfMemoryError or GpuInternalError for what `work` caused.
   */
  async scoped<T>(doing: string, work: () => T | Promise<T>): Promise<T> {
    this.check();
    const filters: GPUErrorFilter[] = ["validation", "out-of-memory", "internal"];
    for (const filter of filters) this.device.pushErrorScope(filter);
    let result: T | undefined;
    let thrown: unknown;
    let failed = false;
    try {
      result = await work();
    } catch (error) {
      failed = true;
      thrown = error;
    }
    const errors = await this.#wait(Promise.all(filters.map(() => this.device.popErrorScope())));
    const first = errors.find((error) => error !== null);
    if (first) throw fromWebGpuError(first, doing);
    if (failed) throw thrown;
    this.check();
    return result as T;
  }

  /** Compiles `shaders/<path>` with constants, once per distinct text. @throws ShaderError */
  kernel(path: string, constants: ShaderConstants, label: string = path): Promise<Kernel> {
    const code = assembleShader(this.#sources, path, constants, this.dialect);
    let kernel = this.#kernels.get(code);
    if (!kernel) {
      kernel = this.#compile(path, code, label);
      this.#kernels.set(code, kernel);
      kernel.catch(() => this.#kernels.delete(code));
    }
    return kernel;
  }

  async #compile(path: string, code: string, label: string): Promise<Kernel> {
    this.check();
    const { device } = this;
    const bindings = reflectBindings(path, code);
    const storage = bindings.filter((binding) => binding.type !== "uniform").length;
    if (storage > this.limits.maxStorageBuffersPerShaderStage)
      throw new AdapterLimitError(
        `compile ${path}`,
        "maxStorageBuffersPerShaderStage",
        storage,
        this.limits.maxStorageBuffersPerShaderStage,
      );
    this.#counts.pipelines++;
    const start = performance.now();
    // Nothing is awaited before the scope is popped: others may be compiled meanwhile, and scopes are a stack.
    device.pushErrorScope("validation");
    const layout = device.createBindGroupLayout({
      label,
      entries: bindings.map(({ binding, type }) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
    });
    const module = device.createShaderModule({ label, code });
    const descriptor = {
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    };
    let making: GPUComputePipeline | Promise<GPUComputePipeline> | undefined;
    let failure: unknown;
    try {
      // In a browser in the background, several at a time.
      making = this.dialect.engine === "browser" ? device.createComputePipelineAsync(descriptor) : device.createComputePipeline(descriptor);
    } catch (error) {
      failure = error;
    }
    const scope = device.popErrorScope();
    const [pipeline, scoped] = await Promise.all([
      Promise.resolve(making).catch((error: unknown) => {
        failure = error;
        return undefined;
      }),
      this.#wait(scope),
    ]);
    if (!pipeline || scoped) {
      const info = await this.#wait(module.getCompilationInfo()).catch(() => undefined);
      const lines = code.split("\n");
      const messages = (info?.messages ?? [])
        .filter((message) => message.type === "error")
        .map((message) => `line ${message.lineNum}: ${message.message.trim()}\n    ${lines[message.lineNum - 1]?.trim() ?? ""}`);
      throw new ShaderError(path, messages.join("\n") || scoped?.message || String(failure), { cause: failure });
    }
    // Where the seconds of a first answer go: to be seen in a browser's profiler, and by tests.
    performance.measure(`compile ${path}`, { start, detail: label });
    const subgroupMatrix = code.includes("enable chromium_experimental_subgroup_matrix;");
    return new Kernel(this.#bindGroups, label, pipeline, layout, bindings, { path, subgroupMatrix });
  }

  /**
   * Creates a zeroed storage buffer, or one for the host to map, and enters it in the ledger. One for uploads is mapped at once. Out of memory is reported by the scope or `check()` around it.
   * @throws AdapterLimitError if it is larger than the device allows.
   */
  buffer({ label, size, kind, usage = 0 }: BufferRequest): GPUBuffer {
    const bytes = alignedSize(size);
    if (bytes > this.limits.maxBufferSize)
      throw new AdapterLimitError(`create buffer '${label}'`, "maxBufferSize", bytes, this.limits.maxBufferSize);
    const base = usageOf(kind);
    this.#counts.buffers++;
    const buffer = this.device.createBuffer({ label, size: bytes, usage: base | usage, mappedAtCreation: kind === "upload" });
    this.#buffers.set(buffer, { kind, size: bytes });
    this.memory.add(kind, bytes);
    return buffer;
  }

  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>, kind: MemoryKind): GPUBuffer {
    const buffer = this.buffer({ label, size: data.byteLength, kind });
    this.write(buffer, 0, data);
    return buffer;
  }

  /** Writes at a byte offset; a length that is no multiple of 4 is padded with zeros. */
  write(buffer: GPUBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const whole = bytes.byteLength - (bytes.byteLength % 4);
    if (whole > 0) this.queue.writeBuffer(buffer, offset, bytes, 0, whole);
    if (whole < bytes.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(bytes.subarray(whole));
      this.queue.writeBuffer(buffer, offset + whole, tail);
    }
  }

  destroyBuffer(buffer: GPUBuffer): void {
    const entry = this.#buffers.get(buffer);
    if (!entry) return;
    this.#buffers.delete(buffer);
    this.memory.add(entry.kind, -entry.size);
    this.#bindGroups.forget(buffer);
    if (entry.kind === "readback") this.#forgetStaging(buffer);
    buffer.destroy();
  }

  /** Encodes and submits. Returns at once. */
  submit(commands: readonly Command[]): void {
    this.check();
    const encoder = this.device.createCommandEncoder();
    encodeCommands(encoder, commands);
    this.#counts.submits++;
    this.queue.submit([encoder.finish()]);
  }

  /** Copies a range (bytes, multiples of 4) to the CPU. Slow on some engines whatever the size: read in batches. */
  async read(buffer: GPUBuffer, offset = 0, size: number = buffer.size - offset): Promise<ArrayBuffer> {
    this.check();
    const staging = this.#takeStaging(size);
    let isWhole = false;
    try {
      const encoder = this.device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      this.#counts.submits++;
      this.queue.submit([encoder.finish()]);
      const bytes = await this.mapped(staging, (range) => range.slice(0, size));
      isWhole = true;
      return bytes;
    } finally {
      this.#leaveStaging(staging, isWhole);
    }
  }

  #takeStaging(size: number): GPUBuffer {
    const kept = size <= KEPT_STAGING_BYTES ? Math.max(KEPT_STAGING_LEAST, 2 ** Math.ceil(Math.log2(size))) : size;
    return this.#staging.get(kept)?.pop() ?? this.buffer({ label: "read", size: kept, kind: "readback" });
  }

  /** Gives up the readback buffers that are only kept for the next reads. */
  trim(): void {
    for (const kept of this.#staging.values()) for (const staging of kept) this.destroyBuffer(staging);
  }

  #forgetStaging(buffer: GPUBuffer): void {
    const others = this.#staging.get(buffer.size)?.filter((staging) => staging !== buffer) ?? [];
    if (others.length > 0) this.#staging.set(buffer.size, others);
    else this.#staging.delete(buffer.size);
  }

  #leaveStaging(staging: GPUBuffer, isWhole: boolean): void {
    const others = this.#staging.get(staging.size) ?? [];
    if (!isWhole || staging.size > KEPT_STAGING_BYTES || others.length >= KEPT_STAGING) return this.destroyBuffer(staging);
    this.#staging.set(staging.size, [...others, staging]);
  }

  /** Maps a readback buffer for as long as `take` reads it. @throws the context's failure rather than the engine's own words for it. */
  mapped<T>(staging: GPUBuffer, take: (range: ArrayBuffer) => T): Promise<T> {
    return this.#orFailure(async () => {
      await this.#map(staging);
      this.check();
      const taken = take(staging.getMappedRange());
      staging.unmap();
      return taken;
    });
  }

  /** Maps a buffer for uploads again, once the copies from it are done. @throws the context's failure rather than the engine's own words for it */
  async mapForWriting(staging: GPUBuffer): Promise<void> {
    await this.#orFailure(() => this.#wait(staging.mapAsync(GPUMapMode.WRITE)));
    this.check();
  }

  /** @throws what the device's failure was, where there is one, rather than what came of it */
  async #orFailure<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.check();
      throw await Promise.race([this.lost, new Promise<unknown>((resolve) => setTimeout(resolve, 1000, error))]);
    }
  }

  /** Waits until everything submitted is done. */
  async idle(): Promise<void> {
    await this.#wait(this.queue.onSubmittedWorkDone());
    this.check();
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    for (const buffer of this.#buffers.keys()) buffer.destroy();
    this.#buffers.clear();
    this.device.destroy();
  }
}

function usageOf(kind: MemoryKind): GPUBufferUsageFlags {
  if (kind === "readback") return GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  if (kind === "upload") return GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
  return GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
}
