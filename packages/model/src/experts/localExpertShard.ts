/**
 * Routed experts on this thread's device: all that it was given, or, with a budget, the hottest of them, the others being read when they are needed (expertCache.ts).
 *
 * A call that needs more experts of a layer than fit at once is computed in parts, experts in ascending order, so that sums do not depend on what happened to be here.
 */
import type { CheckpointSource, ModelConfig } from "@shoal/checkpoint";
import { AdapterLimitError, type Command, type Dispatch, type GpuContext } from "@shoal/gpu";
import {
  CHUNK,
  type ExpertGroup,
  LOWEST_EXPERT_TILE,
  actQuant,
  batchBytes,
  encodeBatch,
  exactExpertsDown,
  exactExpertsGateUp,
  expertTileRows,
  expertTiles,
  expertsCombine,
  expertsDownFew,
  expertsDownMany,
  expertsGateUpFew,
  expertsGateUpMany,
  groupTokens,
  roundUp,
} from "@shoal/kernels";
import { DECODE_TOKENS, type Matrix2D } from "../activations.ts";
import { ModelError } from "../errors.ts";
import type { NumericMode } from "../recorder.ts";
import { packRows } from "../trace.ts";
import type { LoadProgress } from "../weights/reader.ts";
import { ExpertCache } from "./expertCache.ts";
import { type ExpertImage, ExpertReader, createExpertGroup, writeExpert } from "./expertImage.ts";
import { type ExpertCall, type ExpertShard, type ExpertShardDescription, NO_EXPERT } from "./expertShard.ts";

export interface LocalExpertShardOptions {
  /** By layer. */
  readonly experts: readonly { readonly layer: number; readonly experts: readonly number[] }[];
  readonly mode?: NumericMode;
  /** Most rows in a call. */
  readonly maxTokens?: number;
  /** Bytes of experts on the device; all of them by default. Shared evenly by the layers, since every token visits each. */
  readonly budgetBytes?: number;
  /** Bytes of experts kept in host memory besides, so that they need not be read again; none by default. */
  readonly hostBytes?: number;
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
  /** Whether `destroy` closes the device; false by default. */
  readonly ownsGpu?: boolean;
}

/** How paging goes. */
export interface PagingStats {
  /** Experts that calls needed, and how many of them were there. */
  readonly needed: number;
  readonly hits: number;
  readonly loads: number;
  readonly loadedBytes: number;
  /** Loaded before they were needed, and of those how many were. */
  readonly prefetched: number;
  readonly prefetchHits: number;
  /** Waiting for experts. */
  readonly stallMs: number;
}

interface Layer {
  readonly index: number;
  readonly group: ExpertGroup;
  readonly owned: ReadonlySet<number>;
  readonly cache: ExpertCache;
  readonly bytes: number;
  /** Being written to their places. */
  readonly loading: Map<number, Promise<void>>;
  readonly prefetched: Set<number>;
}

export const DEFAULT_SHARD_TOKENS = 256;
const KEPT_PROGRAMS = 1024;

/** The checkpoint must stay open as long as experts may have to be read. @throws as loading weights does; AdapterLimitError for a budget of less than one token's experts */
export async function loadLocalExpertShard(
  gpu: GpuContext,
  checkpoint: CheckpointSource,
  options: LocalExpertShardOptions,
): Promise<LocalExpertShard> {
  const shard = await gpu.scoped("allocate experts", () => new LocalExpertShard(gpu, checkpoint, options));
  await gpu.scoped("load experts", () => shard.fill());
  return shard;
}

export class LocalExpertShard implements ExpertShard {
  readonly gpu: GpuContext;
  readonly #config: ModelConfig;
  readonly #reader: ExpertReader;
  readonly #options: LocalExpertShardOptions;
  readonly #layers = new Map<number, Layer>();
  readonly #maxTokens: number;
  readonly #slots: number;
  readonly #x: Matrix2D;
  readonly #quantized: Matrix2D;
  readonly #h: Matrix2D;
  readonly #out: Matrix2D;
  readonly #y: Matrix2D;
  readonly #routing: GPUBuffer;
  readonly #batch: GPUBuffer;
  readonly #tiles: GPUBuffer;
  readonly #tileRows: GPUBuffer;
  readonly #programs = new Map<string, readonly Command[]>();
  readonly #host = new Map<string, ExpertImage>();
  #hostBytes = 0;
  readonly #stats = { needed: 0, hits: 0, loads: 0, loadedBytes: 0, prefetched: 0, prefetchHits: 0, stallMs: 0 };
  #turn: Promise<unknown> = Promise.resolve();

  constructor(gpu: GpuContext, checkpoint: CheckpointSource, options: LocalExpertShardOptions) {
    const { config } = checkpoint;
    const { hiddenSize, moeIntermediateSize: width, nActivatedExperts, nRoutedExperts } = config;
    this.gpu = gpu;
    this.#config = config;
    this.#reader = new ExpertReader(checkpoint);
    this.#options = options;
    this.#maxTokens = options.maxTokens ?? DEFAULT_SHARD_TOKENS;
    this.#slots = nActivatedExperts;
    const layers = options.experts.filter(({ experts }) => experts.length > 0);
    let most = 0;
    for (const { layer, experts } of layers) {
      const shape = this.#reader.shape(layer);
      const share = options.budgetBytes === undefined ? experts.length : Math.floor(options.budgetBytes / layers.length / shape.bytes);
      const count = Math.min(experts.length, share);
      const needed = Math.min(experts.length, nActivatedExperts);
      if (count < needed)
        throw new AdapterLimitError(
          `page the experts of layer ${layer}`,
          "expert bytes",
          needed * shape.bytes * layers.length,
          options.budgetBytes ?? 0,
          "a layer must have room for the experts of one token",
        );
      this.#layers.set(layer, {
        index: layer,
        group: createExpertGroup(gpu, `layer ${layer} experts`, shape, count),
        owned: new Set(experts),
        cache: new ExpertCache(nRoutedExperts, count),
        bytes: shape.bytes,
        loading: new Map(),
        prefetched: new Set(),
      });
      most = Math.max(most, count);
    }
    const matrix = (label: string, rows: number, columns: number): Matrix2D => {
      const stride = roundUp(columns, CHUNK);
      return { stride, buffer: gpu.buffer({ label, size: rows * stride * 4, kind: "activations" }) };
    };
    const pairs = this.#maxTokens * this.#slots;
    this.#x = matrix("shard input", this.#maxTokens, hiddenSize);
    this.#quantized = matrix("shard input quantized", options.mode === "w8a8" ? this.#maxTokens : 1, hiddenSize);
    this.#h = matrix("shard hidden", pairs, width);
    this.#out = matrix("shard expert out", pairs, hiddenSize);
    this.#y = matrix("shard sums", this.#maxTokens, hiddenSize);
    this.#routing = gpu.buffer({ label: "shard routing", size: pairs * 8, kind: "activations" });
    this.#batch = gpu.buffer({ label: "shard batch", size: batchBytes(this.#maxTokens), kind: "tables" });
    const { tilesBytes, rowsBytes } = expertTiles({
      maxTokens: this.#maxTokens,
      slots: this.#slots,
      experts: Math.max(1, most),
      tileRows: LOWEST_EXPERT_TILE,
    });
    this.#tiles = gpu.buffer({ label: "shard tiles", size: tilesBytes, kind: "activations" });
    this.#tileRows = gpu.buffer({ label: "shard tile rows", size: rowsBytes, kind: "activations" });
  }

  get paging(): PagingStats {
    return { ...this.#stats };
  }

  /** Loads as many experts as fit. */
  async fill(): Promise<void> {
    const layers = [...this.#layers.values()];
    const totalBytes = layers.reduce((sum, { group, bytes }) => sum + group.count * bytes, 0);
    let loadedBytes = 0;
    for (const layer of layers)
      for (const { expert, slot } of layer.cache.admit([...layer.owned].slice(0, layer.group.count))) {
        await this.#load(layer, expert, slot);
        loadedBytes += layer.bytes;
        this.#options.onProgress?.({ loadedBytes, totalBytes });
      }
    await this.gpu.idle();
  }

  async describe(): Promise<ExpertShardDescription> {
    return {
      experts: [...this.#layers].map(([layer, { owned }]) => ({ layer, experts: [...owned] })),
      hiddenSize: this.#config.hiddenSize,
      maxTokens: this.#maxTokens,
      memory: this.gpu.memory.byKind(),
    };
  }

  run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    const result = this.#turn.then(() => this.#run(call));
    // The device takes one call after the other; only the last reading may still be under way.
    this.#turn = result.then(
      ({ submitted }) => submitted,
      () => undefined,
    );
    return result.then(({ rows }) => rows);
  }

  async destroy(): Promise<void> {
    await this.#turn;
    if (this.#options.ownsGpu === true) this.gpu.destroy();
  }

  async #run(call: ExpertCall): Promise<{ readonly submitted: undefined; readonly rows: Promise<Float32Array<ArrayBuffer>> }> {
    const layer = this.#checked(call);
    const { tokens, slots, x, experts } = call;
    const { hiddenSize } = this.#config;
    const { stride } = this.#x;
    const rows = new Float32Array(tokens * stride);
    for (let row = 0; row < tokens; row++) rows.set(x.subarray(row * hiddenSize, (row + 1) * hiddenSize), row * stride);
    const needed = [...new Set(experts)].filter((expert) => expert !== NO_EXPERT).sort((a, b) => a - b);
    this.gpu.write(this.#x.buffer, 0, rows);
    const zeros = Array.from({ length: tokens }, () => 0);
    this.gpu.write(this.#batch, 0, encodeBatch({ tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, this.#maxTokens));
    layer.cache.use(needed);
    for (let first = 0; first < needed.length; first += layer.group.count) {
      const part = needed.slice(first, first + layer.group.count);
      await this.#makeResident(layer, part);
      this.gpu.write(this.#routing, 0, this.#encodeRouting(layer, call, new Set(part)));
      this.gpu.submit(await this.#program(layer, tokens, slots, first > 0));
    }
    if (tokens === 1 && layer.group.count < layer.owned.size) void this.#prefetch(layer);
    const reading = needed.length === 0 ? Promise.resolve(undefined) : this.gpu.read(this.#y.buffer, 0, tokens * this.#y.stride * 4);
    const sums = reading.then((bytes) =>
      bytes ? packRows(new Float32Array(bytes), tokens, hiddenSize, this.#y.stride) : new Float32Array(tokens * hiddenSize),
    );
    return { submitted: undefined, rows: sums };
  }

  #checked({ layer: index, tokens, slots, x, experts, weights }: ExpertCall): Layer {
    const bad = (message: string): never => {
      throw new ModelError("bad-batch", `Cannot run experts: ${message}`);
    };
    const layer = this.#layers.get(index) ?? bad(`layer ${index} has none here`);
    if (!Number.isInteger(tokens) || tokens < 1 || tokens > this.#maxTokens) bad(`${tokens} rows, expected 1 to ${this.#maxTokens}`);
    if (slots !== this.#slots) bad(`${slots} experts a row, expected ${this.#slots}`);
    if (x.length !== tokens * this.#config.hiddenSize)
      bad(`${x.length} values for ${tokens} rows, expected ${tokens * this.#config.hiddenSize}`);
    if (experts.length !== tokens * slots || weights.length !== tokens * slots)
      bad(`${experts.length} experts and ${weights.length} weights, expected ${tokens * slots}`);
    const foreign = experts.find((expert) => expert !== NO_EXPERT && !layer.owned.has(expert));
    if (foreign !== undefined) bad(`expert ${foreign} of layer ${index} is not here`);
    return layer;
  }

  async #makeResident(layer: Layer, experts: readonly number[]): Promise<void> {
    const { cache, loading, prefetched } = layer;
    const begin = performance.now();
    this.#stats.needed += experts.length;
    for (const expert of experts) {
      if (cache.slotOf(expert) === undefined) continue;
      this.#stats.hits++;
      if (prefetched.delete(expert)) this.#stats.prefetchHits++;
    }
    const loads = cache.admit(experts).map(({ expert, slot }) => this.#load(layer, expert, slot));
    const waits = [...loads, ...experts.flatMap((expert) => loading.get(expert) ?? [])];
    if (waits.length === 0) return;
    await Promise.all(waits);
    this.#stats.stallMs += performance.now() - begin;
  }

  #load(layer: Layer, expert: number, slot: number): Promise<void> {
    const load = async (): Promise<void> => {
      try {
        const image = await this.#image(layer, expert);
        // Its place may have been given away again meanwhile.
        if (layer.cache.slotOf(expert) === slot) writeExpert(this.gpu, layer.group, slot, image);
        this.#stats.loads++;
        this.#stats.loadedBytes += layer.bytes;
      } catch (error) {
        layer.cache.forget(expert);
        throw error;
      } finally {
        layer.loading.delete(expert);
      }
    };
    const loading = load();
    layer.loading.set(expert, loading);
    return loading;
  }

  /** From host memory, if it is there, or else from the checkpoint. */
  async #image({ index, bytes }: Layer, expert: number): Promise<ExpertImage> {
    const key = `${index} ${expert}`;
    const kept = this.#host.get(key);
    if (kept) return kept;
    const image = await this.#reader.read(index, expert, this.#options.signal);
    if (this.#hostBytes + bytes <= (this.#options.hostBytes ?? 0)) {
      this.#host.set(key, image);
      this.#hostBytes += bytes;
    }
    return image;
  }

  /** The expert that most often follows the ones just used, while the other layers compute. */
  async #prefetch(layer: Layer): Promise<void> {
    const expert = layer.cache.likely();
    if (expert === undefined || !layer.owned.has(expert) || layer.loading.size > 0) return;
    const [load] = layer.cache.admit([expert]);
    if (!load) return;
    layer.prefetched.add(expert);
    this.#stats.prefetched++;
    // What fails is read again when it is needed, and fails then.
    await this.#load(layer, expert, load.slot).catch(() => undefined);
  }

  /** [tokens, slots] pairs, experts by their places here. */
  #encodeRouting(layer: Layer, { experts, weights }: ExpertCall, part: ReadonlySet<number>): Uint32Array<ArrayBuffer> {
    const words = new Uint32Array(experts.length * 2);
    const floats = new Float32Array(words.buffer);
    for (const [index, expert] of experts.entries()) {
      const slot = part.has(expert) ? layer.cache.slotOf(expert) : undefined;
      words[index * 2] = slot ?? NO_EXPERT;
      floats[index * 2 + 1] = slot === undefined ? 0 : (weights[index] ?? 0);
    }
    return words;
  }

  async #program(layer: Layer, tokens: number, slots: number, accumulates: boolean): Promise<readonly Command[]> {
    const key = `${layer.index} ${tokens} ${accumulates}`;
    let program = this.#programs.get(key);
    if (program) return program;
    program = await this.#record(layer.group, tokens, slots, accumulates);
    const [oldest] = this.#programs.keys();
    if (this.#programs.size >= KEPT_PROGRAMS && oldest !== undefined) this.#programs.delete(oldest);
    this.#programs.set(key, program);
    return program;
  }

  async #record(group: ExpertGroup, tokens: number, slots: number, residual: boolean): Promise<readonly Command[]> {
    const { gpu } = this;
    const routing = this.#routing;
    const exact = this.#options.mode === "w8a8";
    const quantizes = exact && group.format === "fp8";
    const scaleFormat = this.#config.quantization?.scaleFmt ?? "f32";
    const commands: Command[] = [];
    const add = (dispatches: Dispatch | readonly Dispatch[]): void => {
      if ("pipeline" in dispatches) commands.push(dispatches);
      else commands.push(...dispatches);
    };
    let x = this.#x;
    if (quantizes) {
      x = this.#quantized;
      commands.push({ copy: { from: this.#x.buffer, fromOffset: 0, to: x.buffer, toOffset: 0, size: tokens * x.stride * 4 } });
      add(await actQuant(gpu, { x: x.buffer, stride: x.stride, cols: group.hidden, rows: tokens, scaleFormat, label: "shard quantize" }));
    }
    const input = { x: x.buffer, xStride: x.stride };
    const h = this.#h.buffer;
    const y = { y: this.#y.buffer, yStride: this.#y.stride, residual };
    const quantizeHidden = async (): Promise<void> => {
      if (quantizes)
        add(
          await actQuant(gpu, {
            x: h,
            stride: this.#h.stride,
            cols: group.width,
            rows: tokens * slots,
            scaleFormat,
            label: "shard hidden quantize",
          }),
        );
    };
    const few = { group, slots, routing, h, tokens };
    if (exact || tokens <= DECODE_TOKENS) {
      add(exact ? await exactExpertsGateUp(gpu, { ...few, ...input }) : await expertsGateUpFew(gpu, { ...few, ...input }));
      await quantizeHidden();
      add(exact ? await exactExpertsDown(gpu, { ...few, ...y }) : await expertsDownFew(gpu, { ...few, ...y }));
      return commands;
    }
    const experts = group.count;
    const grouping = { tiles: this.#tiles, rows: this.#tileRows, tileRows: expertTileRows(gpu, { tokens, slots, experts }) };
    const step = { batch: this.#batch, maxTokens: this.#maxTokens };
    const out = { out: this.#out.buffer, outStride: this.#out.stride };
    add(await groupTokens(gpu, { routing, slots, experts, ...grouping, tokens, maxTokens: this.#maxTokens, step }));
    add(await expertsGateUpMany(gpu, { group, slots, grouping, ...input, h, tokens }));
    add(await expertsDownMany(gpu, { group, slots, grouping, h, ...out, tokens }));
    add(await expertsCombine(gpu, { routing, slots, ...out, ...y, hidden: group.hidden, tokens }));
    return commands;
  }
}
