import type { Dtype, TensorInfo } from "@shoal/safetensors";
import { describe, expect, it } from "vitest";

import { DEEPSEEK_V3 } from "../test/fixtures.ts";
import type { ModelConfig } from "./config.ts";
import { CheckpointError } from "./error.ts";
import { parseHfConfig } from "./hf-config.ts";
import { memoryNeeded, summarize } from "./summarize.ts";
import { tensorSchema } from "./tensor-schema.ts";
import { validateCheckpoint } from "./validate.ts";

const SMALL = parseHfConfig({
  ...DEEPSEEK_V3,
  num_hidden_layers: 2,
  first_k_dense_replace: 1,
  hidden_size: 200,
  intermediate_size: 300,
  moe_intermediate_size: 48,
  n_routed_experts: 8,
  n_group: 2,
  topk_group: 1,
  num_experts_per_tok: 2,
  num_attention_heads: 3,
  vocab_size: 100,
});
const BYTES: Partial<Record<Dtype, number>> = { BF16: 2, F8_E4M3: 1, F16: 2 };

function info(name: string, dtype: Dtype, shape: readonly number[]): TensorInfo {
  const byteLength = shape.reduce((total, dim) => total * dim, BYTES[dtype] ?? 4);
  return { name, dtype, shape, begin: 0, end: byteLength, byteLength, file: "x" };
}

/** The tensors as DeepSeek publishes them. */
function published(config: ModelConfig): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (const spec of tensorSchema(config)) {
    const plain = spec.name.endsWith("bias") ? "F32" : "BF16";
    tensors.set(spec.name, info(spec.name, spec.kind === "fp8Block" ? "F8_E4M3" : plain, spec.shape));
    if (spec.scaleName !== undefined) tensors.set(spec.scaleName, info(spec.scaleName, "F32", spec.scaleShape ?? []));
  }
  return tensors;
}

function failure(change: (tensors: Map<string, TensorInfo>) => void, config = SMALL): CheckpointError {
  const tensors = published(SMALL);
  change(tensors);
  try {
    validateCheckpoint(config, tensors, "dir");
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
  throw new Error("expected a CheckpointError");
}

const O_PROJ = "model.layers.0.self_attn.o_proj.weight";

describe("validateCheckpoint()", () => {
  it("accepts a published layout", () => {
    expect(validateCheckpoint(SMALL, published(SMALL))).toEqual({ warnings: [] });
  });

  it("accepts each matrix in any float format, with or without a scale left over", () => {
    const tensors = published(SMALL);
    tensors.set(O_PROJ, info(O_PROJ, "BF16", [200, 384]));
    tensors.delete("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv");
    const other = "model.layers.1.mlp.experts.3.up_proj.weight";
    tensors.set(other, info(other, "F16", [48, 200]));
    expect(validateCheckpoint(SMALL, tensors).warnings).toEqual([`1 tensor is no part of the model: '${O_PROJ}_scale_inv'`]);
  });

  it("does without the copies in the MTP module", () => {
    const tensors = published(SMALL);
    expect(tensors.delete("model.layers.2.embed_tokens.weight")).toBe(true);
    expect(tensors.delete("model.layers.2.shared_head.head.weight")).toBe(true);
    expect(validateCheckpoint(SMALL, tensors)).toEqual({ warnings: [] });
  });

  it("ignores stored RoPE frequencies and reports other tensors", () => {
    const tensors = published(SMALL);
    tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", info("f", "F32", [32]));
    for (const name of ["a", "b", "c", "d", "e"]) tensors.set(name, info(name, "F32", [1]));
    expect(validateCheckpoint(SMALL, tensors).warnings).toEqual(["5 tensors are no part of the model: 'a', 'b', 'c' and 2 more"]);
  });

  it("names a missing tensor and how many others", () => {
    const one = failure((tensors) => tensors.delete(O_PROJ));
    expect(one.message).toBe(`Cannot load 'dir': tensor '${O_PROJ}' is missing, expected it with shape [200,384]`);
    expect(one).toMatchObject({ name: "CheckpointError", code: "missing-tensor", checkpoint: "dir" });
    expect(failure((tensors) => tensors.clear()).message).toMatch(/'model.embed_tokens.weight' is missing \(with \d+ others\)/);
  });

  it("names a missing scale and the matrix that needs it", () => {
    const error = failure((tensors) => tensors.delete(`${O_PROJ}_scale_inv`));
    expect(error.code).toBe("missing-scale");
    expect(error.message).toBe(
      `Cannot load 'dir': tensor '${O_PROJ}' is FP8 without its scale, expected '${O_PROJ}_scale_inv' with shape [2,3]`,
    );
  });

  it.each<readonly [string, string, Dtype, readonly number[], string, RegExp]>([
    ["a matrix of integers", O_PROJ, "I8", [200, 384], "wrong-dtype", /I8, expected F8_E4M3 or BF16/],
    ["a matrix in E5M2", O_PROJ, "F8_E5M2", [200, 384], "wrong-dtype", /F8_E5M2/],
    ["a norm in FP8", "model.norm.weight", "F8_E4M3", [200], "wrong-dtype", /expected BF16 or F16 or F32/],
    ["a transposed matrix", O_PROJ, "F8_E4M3", [384, 200], "wrong-shape", /has shape \[384,200\], expected \[200,384\]/],
    ["a matrix with one axis more", O_PROJ, "F8_E4M3", [200, 384, 1], "wrong-shape", /expected \[200,384\]/],
    ["a scale in BF16", `${O_PROJ}_scale_inv`, "BF16", [2, 3], "wrong-dtype", /BF16, expected F32/],
    ["a scale for blocks of another size", `${O_PROJ}_scale_inv`, "F32", [4, 6], "wrong-shape", /expected \[2,3\]/],
    ["a copy of another shape", "model.layers.2.embed_tokens.weight", "BF16", [1, 1], "wrong-shape", /expected \[100,200\]/],
  ])("refuses %s", (_, name, dtype, shape, code, message) => {
    const error = failure((tensors) => tensors.set(name, info(name, dtype, shape)));
    expect(error).toMatchObject({ code, path: `tensor '${name}'` });
    expect(error.message).toMatch(message);
  });

  it("refuses FP8 where the config does not declare it", () => {
    const error = failure(() => {}, { ...SMALL, quantization: null });
    expect(error).toMatchObject({ code: "wrong-dtype" });
    expect(error.expected).toMatch(/FP8 is for matrices of a model whose config declares it/);
  });
});

describe("summarize() and memoryNeeded()", () => {
  const config = parseHfConfig(DEEPSEEK_V3);
  const summary = summarize(config, published(config));

  it("adds DeepSeek-V3 up to the published totals", () => {
    expect(summary).toMatchObject({ tensorCount: 91_991, totalBytes: 688_574_839_360 });
    expect(Object.values(summary.bytesByKind).reduce((sum, bytes) => sum + bytes, 0)).toBe(summary.totalBytes);
    expect(summary.bytesByKind.other).toBe(0);
    // 15.42 GB of MTP, 3.71 of it copies.
    expect(summary.bytesByKind.mtp / 1e9).toBeCloseTo(15.42, 2);
    expect((summary.totalBytes - summary.loadBytes) / 1e9).toBeCloseTo(3.71, 2);
    expect(summary.bytesByKind.mtp - summary.mtpLoadBytes).toBe(summary.totalBytes - summary.loadBytes);
  });

  it("counts 671 billion parameters, 37 of them active", () => {
    expect(summary.parameters.main / 1e9).toBeCloseTo(671.03, 2);
    expect(Math.round(summary.parameters.activePerToken / 1e9)).toBe(37);
    expect(Number.isInteger(summary.parameters.activePerToken)).toBe(true);
  });

  it("says what memory a run needs, with and without MTP", () => {
    expect(memoryNeeded(config, summary, { contextTokens: 1000, mtp: false })).toEqual({
      weightBytes: summary.loadBytes - summary.mtpLoadBytes,
      kvBytes: 70_272_000,
      totalBytes: summary.loadBytes - summary.mtpLoadBytes + 70_272_000,
    });
    expect(memoryNeeded(config, summary, { contextTokens: 1000 }).kvBytes).toBe(62 * 1152 * 1000);
    expect(memoryNeeded(config, summary, { contextTokens: 1000, kvFormat: "f32", mtp: false }).kvBytes).toBe(140_544_000);
  });

  it("puts tensors that are no part of the model under other and does not load them", () => {
    const tensors = published(SMALL);
    const before = summarize(SMALL, tensors);
    tensors.set("extra", info("extra", "F32", [10]));
    const after = summarize(SMALL, tensors);
    expect(after.bytesByKind.other).toBe(40);
    expect(after.loadBytes).toBe(before.loadBytes);
  });
});
