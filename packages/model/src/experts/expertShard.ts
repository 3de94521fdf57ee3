/**
 * Routed experts somewhere: on this device, on another, behind a network. A shard has no state but weights: rows in, weighted partial sums out, so losing one costs a repetition and
 * never a conversation. A stage may give all its routed experts to one (`LocalStageOptions.experts`), which may be several behind one face.
 */
export interface ExpertCall {
  readonly layer: number;
  /** Rows. */
  readonly tokens: number;
  /** Experts that each row may name. */
  readonly slots: number;
  /** [tokens, hiddenSize], normalized, not quantized. */
  readonly x: Float32Array<ArrayBuffer>;
  /** [tokens, slots] of routed experts, or NO_EXPERT. */
  readonly experts: Uint32Array<ArrayBuffer>;
  /** [tokens, slots]; of NO_EXPERT 0. */
  readonly weights: Float32Array<ArrayBuffer>;
}

/** In a slot: nothing to be computed. */
export const NO_EXPERT = 0xffffffff;

export interface ExpertShardDescription {
  readonly experts: readonly { readonly layer: number; readonly experts: readonly number[] }[];
  readonly hiddenSize: number;
  /** Most rows in a call. */
  readonly maxTokens: number;
  /** Bytes on the device, by kind. */
  readonly memory: Readonly<Record<string, number>>;
}

export interface ExpertShard {
  describe(): Promise<ExpertShardDescription>;
  /**
   * For each row the sum of its experts' outputs times their weights: [tokens, hiddenSize]. Calls may overlap; each is answered by itself.
   * @throws ModelError named bad-batch for an expert that is not here or shapes that do not fit
   */
  run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>>;
  destroy(): Promise<void>;
}
