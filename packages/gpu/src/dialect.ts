/**
 * What one device accepts and gets right, found out by trying rather than by asking: Deno's wgpu has subgroups without listing them, refuses the
 * `enable` directive that Dawn demands, and SwiftShader flushes what others keep.
 */

export type EngineName = "wgpu" | "dawn" | "browser";

export interface Dialect {
  readonly engine: EngineName;
  /** `directive`: the builtins need `enable subgroups;`. `implicit`: they work and the directive is a parse error (naga). */
  readonly subgroups: "directive" | "implicit" | "none";
  /** Invocations in a subgroup where that is fixed and they are numbered in order, otherwise 0. */
  readonly subgroupSize: number;
  /** `shader-f16` granted. Only ever a storage and speed option. */
  readonly f16: boolean;
  readonly timestampQuery: boolean;
  /** How e4m3 codes become f32: `unpack` shifts into f16 bits (2 codes in 4 operations), `select` rebuilds the exponent in f32. */
  readonly fp8Decode: "unpack" | "select";
  /** The shape of subgroup matrices that came out right when tried, f16 times f16 summed in f32; absent where there are none. */
  readonly subgroupMatrix?: SubgroupMatrices;
}

export interface SubgroupMatrices extends SubgroupMatrixShape {
  /** Whether activations must not be rounded to f16 for them. */
  readonly precise: boolean;
}

/** A left matrix of m rows and k columns times a right one of k rows and n columns. */
export interface SubgroupMatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}
