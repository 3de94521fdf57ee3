/** One routed expert's weights as they lie on the GPU, read from a checkpoint: from disk, a network, a browser's storage, whatever its tensors come from. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { CHUNK, type ExpertGroup, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, roundUp } from "@shoal/kernels";
import type { GpuContext } from "@shoal/gpu";
import { ModelError } from "../errors.ts";
import { toFloats } from "../weights/floats.ts";
import { expertsPerPage } from "../weights/layout.ts";
import { tensorFormat } from "../weights/reader.ts";

export interface ExpertImage {
  /** Gate [width, stride], then up. */
  readonly gateUp: Uint8Array<ArrayBuffer>;
  /** [hidden, stride] */
  readonly down: Uint8Array<ArrayBuffer>;
  /** Of FP8. */
  readonly gateUpScales?: Float32Array<ArrayBuffer>;
  readonly downScales?: Float32Array<ArrayBuffer>;
}

/** Bytes and shapes of an expert of a layer. */
export interface ExpertShape {
  readonly format: WeightFormat;
  readonly hidden: number;
  readonly width: number;
  readonly bytes: number;
}

export class ExpertReader {
  readonly #checkpoint: Pick<CheckpointSource, "config" | "tensors">;

  constructor(checkpoint: Pick<CheckpointSource, "config" | "tensors">) {
    this.#checkpoint = checkpoint;
  }

  shape(layer: number): ExpertShape {
    const { hiddenSize: hidden, moeIntermediateSize: width } = this.#checkpoint.config;
    const format = tensorFormat(this.#checkpoint.tensors, `${expertName(layer, 0)}.gate_proj.weight`);
    const scales = format === "fp8" ? 3 * Math.ceil(hidden / SCALE_BLOCK) * Math.ceil(width / SCALE_BLOCK) * 4 : 0;
    const elements = 2 * width * roundUp(hidden, CHUNK) + hidden * roundUp(width, CHUNK);
    return { format, hidden, width, bytes: elements * FORMAT_BYTES[format] + scales };
  }

  /** @throws ModelError named bad-weights for NaN codes, unsupported for mixed formats; whatever reading throws */
  async read(layer: number, expert: number, signal?: AbortSignal): Promise<ExpertImage> {
    const { format, hidden, width } = this.shape(layer);
    const name = expertName(layer, expert);
    const [gate, up, down] = await Promise.all([
      this.#rows(`${name}.gate_proj.weight`, format, hidden, signal),
      this.#rows(`${name}.up_proj.weight`, format, hidden, signal),
      this.#rows(`${name}.down_proj.weight`, format, width, signal),
    ]);
    const gateUp = new Uint8Array(gate.byteLength + up.byteLength);
    gateUp.set(gate);
    gateUp.set(up, gate.byteLength);
    if (format !== "fp8") return { gateUp, down };
    const [gateScales, upScales, downScales] = await Promise.all(
      ["gate_proj", "up_proj", "down_proj"].map((matrix) => this.#scales(`${name}.${matrix}.weight_scale_inv`, signal)),
    );
    if (!gateScales || !upScales || !downScales) throw new RangeError("scales are missing");
    const gateUpScales = new Float32Array(gateScales.length + upScales.length);
    gateUpScales.set(gateScales);
    gateUpScales.set(upScales, gateScales.length);
    return { gateUp, down, gateUpScales, downScales };
  }

  /** Rows at the stride that the kernels want. */
  async #rows(name: string, format: WeightFormat, columns: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { tensors } = this.#checkpoint;
    const stored = tensorFormat(tensors, name);
    if (stored !== format)
      throw new ModelError("unsupported", `Cannot load '${name}': it is stored as ${stored}, its layer's other experts as ${format}`);
    const bytes = await tensors.readTensor(name, signal);
    if (format === "fp8" && bytes.some((code) => (code & 0x7f) === 0x7f))
      throw new ModelError(
        "bad-weights",
        `Cannot use the weights '${name}': some FP8 codes are NaN (0x7f or 0xff), expected none; the file is damaged`,
      );
    const rowBytes = columns * FORMAT_BYTES[format];
    const stride = roundUp(columns, CHUNK) * FORMAT_BYTES[format];
    if (rowBytes === stride) return bytes;
    const rows = bytes.byteLength / rowBytes;
    const padded = new Uint8Array(rows * stride);
    for (let row = 0; row < rows; row++) padded.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), row * stride);
    return padded;
  }

  async #scales(name: string, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const { tensors } = this.#checkpoint;
    const values = toFloats(await tensors.readTensor(name, signal), tensorFormat(tensors, name));
    if (!values.every(Number.isFinite)) throw new ModelError("bad-weights", `Cannot load tensor '${name}': a scale is no finite number`);
    return values;
  }
}

export function expertName(layer: number, expert: number): string {
  return `model.layers.${layer}.mlp.experts.${expert}`;
}

/** Room for `count` experts. @throws AdapterLimitError if one does not fit a binding */
export function createExpertGroup(gpu: GpuContext, label: string, { format, hidden, width }: ExpertShape, count: number): ExpertGroup {
  const { gateUpBytes, downBytes } = imageBytes({ format, hidden, width });
  const pages = (what: string, expertBytes: number): ExpertGroup["down"] => {
    const perPage = expertsPerPage(`${label} ${what}`, expertBytes, count, gpu.limits);
    return Array.from({ length: Math.ceil(count / perPage) }, (_, page) => {
      const firstExpert = page * perPage;
      const experts = Math.min(perPage, count - firstExpert);
      return {
        buffer: gpu.buffer({ label: `${label} ${what} ${page}`, size: experts * expertBytes, kind: "weights" }),
        firstExpert,
        experts,
      };
    });
  };
  const blocks = Math.ceil(hidden / SCALE_BLOCK) * Math.ceil(width / SCALE_BLOCK);
  const scales = (what: string, each: number): GPUBuffer =>
    gpu.buffer({ label: `${label} ${what}`, size: count * each * 4, kind: "weights" });
  return {
    format,
    count,
    hidden,
    width,
    gateUp: pages("gate and up", gateUpBytes),
    down: pages("down", downBytes),
    ...(format === "fp8" && { gateUpScales: scales("gate and up scales", 2 * blocks), downScales: scales("down scales", blocks) }),
  };
}

/** Puts an expert into a place of a group: steps submitted later see it. */
export function writeExpert(gpu: GpuContext, group: ExpertGroup, slot: number, image: ExpertImage): void {
  const put = (pages: ExpertGroup["down"], bytes: Uint8Array<ArrayBuffer>): void => {
    const page = pages.find(({ firstExpert, experts }) => slot >= firstExpert && slot < firstExpert + experts);
    if (!page) throw new RangeError(`No page for expert ${slot}`);
    gpu.write(page.buffer, (slot - page.firstExpert) * bytes.byteLength, bytes);
  };
  put(group.gateUp, image.gateUp);
  put(group.down, image.down);
  if (group.gateUpScales && image.gateUpScales) gpu.write(group.gateUpScales, slot * image.gateUpScales.byteLength, image.gateUpScales);
  if (group.downScales && image.downScales) gpu.write(group.downScales, slot * image.downScales.byteLength, image.downScales);
}

function imageBytes({ format, hidden, width }: Omit<ExpertShape, "bytes">): { readonly gateUpBytes: number; readonly downBytes: number } {
  const element = FORMAT_BYTES[format];
  return { gateUpBytes: 2 * width * roundUp(hidden, CHUNK) * element, downBytes: hidden * roundUp(width, CHUNK) * element };
}
