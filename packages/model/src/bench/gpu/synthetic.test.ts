import { parseDemoConfig, validateCheckpoint } from "@shoal/checkpoint";
import { e4m3ToNumber } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { syntheticCheckpoint } from "./synthetic.ts";

const config = parseDemoConfig({
  dtype: "fp8",
  score_func: "sigmoid",
  n_layers: 2,
  dim: 512,
  vocab_size: 3000,
  inter_dim: 700,
  moe_inter_dim: 192,
});
const checkpoint = syntheticCheckpoint(config);
const { tensors } = checkpoint;
const DOWN = "model.layers.1.mlp.experts.5.down_proj.weight";

describe("syntheticCheckpoint()", () => {
  it("has all tensors of the config, in the formats that are published", () => {
    expect(validateCheckpoint(config, tensors.tensors).warnings).toEqual([]);
    expect(tensors.tensors.get(DOWN)).toMatchObject({ dtype: "F8_E4M3", shape: [512, 192], byteLength: 512 * 192 });
    expect(tensors.tensors.get("lm_head.weight")?.dtype).toBe("BF16");
  });

  it("gives the same bytes whole, in slices, and into a caller's memory", async () => {
    const whole = await tensors.readTensor(DOWN);
    const slices: number[] = [];
    for await (const slice of tensors.readSlices(DOWN, { sliceBytes: 10_007 })) slices.push(...slice);
    expect(Uint8Array.from(slices)).toEqual(whole);
    const into = new Uint8Array(100).fill(1);
    expect(await tensors.readPart(DOWN, { offset: 50, length: 60, into })).toEqual(whole.slice(50, 110));
    expect([...into.subarray(60)]).toEqual(Array.from({ length: 40 }, () => 1));
  });

  it("has FP8 weights without NaN that keep the size of what they multiply", async () => {
    const codes = await tensors.readTensor(DOWN);
    const scales = new Float32Array((await tensors.readTensor(`${DOWN}_scale_inv`)).buffer);
    expect(scales).toHaveLength(4 * 2);
    expect(new Set(scales).size).toBeGreaterThan(4);
    let squares = 0;
    for (const [index, code] of codes.entries()) {
      const value = e4m3ToNumber(code) * (scales[Math.floor(index / 192 / 128) * 2 + Math.floor((index % 192) / 128)] ?? 0);
      squares += value ** 2;
    }
    // NaN, had there been one.
    const perOutput = squares / 512;
    expect(perOutput).toBeGreaterThan(0.5);
    expect(perOutput).toBeLessThan(2);
  });

  it("has different rows, and different tensors", async () => {
    const rows = async (name: string, bytes: number): Promise<number> => {
      const all = Buffer.from(await tensors.readTensor(name));
      const seen = new Set<string>();
      for (let at = 0; at < all.length; at += bytes) seen.add(all.toString("latin1", at, at + bytes));
      return seen.size;
    };
    expect(await rows("lm_head.weight", 1024)).toBe(3000);
    expect(await rows(DOWN, 192)).toBe(512);
    expect(await tensors.readTensor(DOWN)).not.toEqual(await tensors.readTensor(DOWN.replace("5", "6")));
  });

  it("refuses a part beyond the end, an unknown name, and an aborted read", async () => {
    await expect(tensors.readPart(DOWN, { offset: 512 * 192 - 1, length: 2 })).rejects.toThrow("it has 98304");
    await expect(tensors.readTensor("nothing")).rejects.toThrow("Cannot read tensor 'nothing'");
    await expect(tensors.readTensor(DOWN, AbortSignal.abort())).rejects.toThrow("abort");
  });
});
