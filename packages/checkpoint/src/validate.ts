/**
 * Compares the tensors of a checkpoint with what its config promises, before a byte of them is loaded. Each matrix may be stored in its own
 * format: FP8 with its block multipliers where the config declares the quantization, or any float type.
 */
import type { Dtype, TensorInfo } from "@shoal/safetensors";

import type { ModelConfig } from "./config.ts";
import { CheckpointError } from "./error.ts";
import { tensorSchema, type TensorSpec } from "./tensor-schema.ts";

const FLOATS: readonly Dtype[] = ["BF16", "F16", "F32"];
const FP8 = "F8_E4M3";

export interface ValidationReport {
  readonly warnings: readonly string[];
}

/**
 * @param checkpoint its name, for messages
 * @throws {CheckpointError} `missing-tensor`, `missing-scale`, `wrong-dtype`, `wrong-shape`
 */
export function validateCheckpoint(
  config: ModelConfig,
  tensors: ReadonlyMap<string, TensorInfo>,
  checkpoint = "the checkpoint",
): ValidationReport {
  const expected = new Set<string>();
  const missing: TensorSpec[] = [];
  for (const spec of tensorSchema(config)) {
    expected.add(spec.name);
    const tensor = tensors.get(spec.name);
    if (tensor === undefined) {
      if (spec.duplicateOf === null) missing.push(spec);
      continue;
    }
    checkTensor(spec, tensor, checkpoint);
    if (tensor.dtype === FP8) expected.add(checkScale(spec, tensors, checkpoint));
  }
  const [first] = missing;
  if (first !== undefined) {
    const more = missing.length > 1 ? ` (with ${missing.length - 1} others)` : "";
    const shape = JSON.stringify(first.shape);
    throw new CheckpointError("missing-tensor", checkpoint, `tensor '${first.name}'`, `is missing${more}`, `it with shape ${shape}`);
  }
  return Object.freeze({ warnings: extraTensors(expected, tensors) });
}

function checkTensor(spec: TensorSpec, tensor: TensorInfo, checkpoint: string): void {
  const path = `tensor '${spec.name}'`;
  const dtypes = spec.kind === "fp8Block" ? [FP8, ...FLOATS] : FLOATS;
  if (!dtypes.includes(tensor.dtype)) {
    const why = tensor.dtype === FP8 ? " (FP8 is for matrices of a model whose config declares it)" : "";
    throw new CheckpointError("wrong-dtype", checkpoint, path, `has dtype ${tensor.dtype}`, `${dtypes.join(" or ")}${why}`);
  }
  checkShape(path, tensor, spec.shape, checkpoint);
}

function checkShape(path: string, tensor: TensorInfo, shape: readonly number[], checkpoint: string): void {
  const same = tensor.shape.length === shape.length && tensor.shape.every((dim, axis) => dim === shape[axis]);
  if (same) return;
  throw new CheckpointError("wrong-shape", checkpoint, path, `has shape ${JSON.stringify(tensor.shape)}`, JSON.stringify(shape));
}

/** @returns the scale's name */
function checkScale(spec: TensorSpec, tensors: ReadonlyMap<string, TensorInfo>, checkpoint: string): string {
  const { scaleName = "", scaleShape = [] } = spec;
  const scale = tensors.get(scaleName);
  if (scale === undefined) {
    const expected = `'${scaleName}' with shape ${JSON.stringify(scaleShape)}`;
    throw new CheckpointError("missing-scale", checkpoint, `tensor '${spec.name}'`, "is FP8 without its scale", expected);
  }
  const path = `tensor '${scaleName}'`;
  if (scale.dtype !== "F32") throw new CheckpointError("wrong-dtype", checkpoint, path, `has dtype ${scale.dtype}`, "F32");
  checkShape(path, scale, scaleShape, checkpoint);
  return scaleName;
}

function extraTensors(expected: ReadonlySet<string>, tensors: ReadonlyMap<string, TensorInfo>): readonly string[] {
  // Old checkpoints store the RoPE frequencies, which follow from the config.
  const extra = [...tensors.keys()].filter((name) => !expected.has(name) && !name.endsWith(".rotary_emb.inv_freq"));
  if (extra.length === 0) return [];
  const named = extra.slice(0, 3).map((name) => `'${name}'`);
  const more = extra.length > 3 ? ` and ${extra.length - 3} more` : "";
  return [`${extra.length === 1 ? "1 tensor is" : `${extra.length} tensors are`} no part of the model: ${named.join(", ")}${more}`];
}
