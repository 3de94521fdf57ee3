/**
 * A compiled compute pipeline, its bindings by name, and dispatches of it. Bind groups are made once, when a dispatch is prepared; running it again
 * creates nothing.
 */
import type { BindGroupCache, BufferRange } from "./bindGroups.ts";
import { GpuError } from "./errors.ts";
import type { BindingInfo } from "./reflect.ts";

export type Grid = readonly [x: number, y: number, z: number];

/** One prepared dispatch. `bytes` and `flops` say what the work costs at least, for benches; both may be left out. */
export interface Dispatch {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly grid: Grid;
  readonly bytes?: number;
  readonly flops?: number;
  /** Whose kernel it is, for profiles. */
  readonly shader?: ShaderOrigin;
}

/** What a kernel was made of. */
export interface ShaderOrigin {
  /** Under `shaders/`. */
  readonly path: string;
  /** Multiplies by subgroup matrices (tensor cores). */
  readonly subgroupMatrix: boolean;
}

export interface DispatchCost {
  readonly bytes?: number;
  readonly flops?: number;
}

export class Kernel {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindings: readonly BindingInfo[];
  readonly shader: ShaderOrigin;
  readonly #groups: BindGroupCache;
  readonly #layout: GPUBindGroupLayout;

  constructor(
    groups: BindGroupCache,
    label: string,
    pipeline: GPUComputePipeline,
    layout: GPUBindGroupLayout,
    bindings: readonly BindingInfo[],
    shader: ShaderOrigin,
  ) {
    this.#groups = groups;
    this.#layout = layout;
    this.label = label;
    this.pipeline = pipeline;
    this.bindings = bindings;
    this.shader = shader;
  }

  /**
   * Binds buffers by their WGSL names.
   * @throws GpuError named BindingError if a name is missing or unknown.
   */
  bind(buffers: Readonly<Record<string, BufferRange>>): GPUBindGroup {
    const unknown = Object.keys(buffers).filter((name) => !this.bindings.some((b) => b.name === name));
    if (unknown.length > 0)
      throw new GpuError(
        "BindingError",
        `Cannot bind '${unknown[0]}' of ${this.label}: the shader declares ${this.bindings.map((b) => b.name).join(", ")}`,
      );
    const entries = this.bindings.map(({ name, binding }) => {
      const range = buffers[name];
      if (range === undefined) throw new GpuError("BindingError", `Cannot bind ${this.label}: no buffer for '${name}'`);
      return { binding, range };
    });
    return this.#groups.get(this.label, this.#layout, entries);
  }

  /** Binds and fixes a grid. To change the grid only, copy the result with another one. */
  dispatch(buffers: Readonly<Record<string, BufferRange>>, grid: Grid, cost: DispatchCost = {}, label: string = this.label): Dispatch {
    return { label, pipeline: this.pipeline, bindGroup: this.bind(buffers), grid, shader: this.shader, ...cost };
  }
}
