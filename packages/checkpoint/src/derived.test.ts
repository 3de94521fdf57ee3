import { fileSource } from "@shoal/safetensors/file";
import { openSafetensors } from "@shoal/safetensors";
import { describe, expect, it } from "vitest";

import { CONFIGS, DEEPSEEK_V3, FIXTURES, readJson } from "../test/fixtures.ts";
import { parseDemoConfig } from "./demo-config.ts";
import { cosSinScale, kvBytesPerToken, ropeInvFreq, softmaxScale, yarnCorrectionRange } from "./derived.ts";
import { parseHfConfig } from "./hf-config.ts";

const V3 = parseHfConfig(DEEPSEEK_V3);

async function golden(name: string): Promise<Float32Array> {
  const file = await openSafetensors(await fileSource(`${FIXTURES}ops.safetensors`));
  try {
    return new Float32Array((await file.readTensor(name)).buffer);
  } finally {
    await file.close();
  }
}

describe("ropeInvFreq()", () => {
  it("agrees with PyTorch's float32 frequencies for DeepSeek-V3 to one unit in the last place", async () => {
    const expected = await golden("yarn671.inv_freq");
    const actual = ropeInvFreq(V3);
    expect(actual.length).toBe(32);
    const off = [...actual].filter((value, i) => value !== expected[i]);
    // powf and Math.pow round one of the 32 differently.
    expect(off.length).toBeLessThanOrEqual(1);
    for (const [i, value] of actual.entries()) expect(Math.abs(value / (expected[i] ?? 0) - 1)).toBeLessThan(1.2e-7);
  });

  it("gives the golden cosines and sines", async () => {
    const positions = new Int32Array((await golden("yarn671.positions")).buffer);
    const cos = await golden("yarn671.cos");
    const sin = await golden("yarn671.sin");
    const frequencies = ropeInvFreq(V3);
    for (const [row, position] of positions.entries()) {
      for (const [i, frequency] of frequencies.entries()) {
        // One unit in the last place of a frequency is 2e-9; over the longest position, 3e-4.
        const tolerance = 1e-7 + position * 2e-9;
        expect(Math.abs(Math.cos(position * frequency) - (cos[row * 32 + i] ?? 0))).toBeLessThan(tolerance);
        expect(Math.abs(Math.sin(position * frequency) - (sin[row * 32 + i] ?? 0))).toBeLessThan(tolerance);
      }
    }
  });

  it("blends between pairs 10 and 23 of DeepSeek-V3's 32", () => {
    const scaling = V3.ropeScaling;
    if (scaling === null) throw new Error("expected YaRN");
    expect(yarnCorrectionRange(10000, 64, scaling)).toEqual({ low: 10, high: 23 });
    const plain = ropeInvFreq({ ...V3, ropeScaling: null });
    const actual = ropeInvFreq(V3);
    expect(actual.slice(0, 11)).toEqual(plain.slice(0, 11));
    for (let i = 23; i < 32; i++) expect((plain[i] ?? 0) / (actual[i] ?? 1)).toBeCloseTo(40, 4);
  });

  it("does not divide by zero where the range has no width", () => {
    const scaling = { factor: 4, originalMaxPositionEmbeddings: 2, betaFast: 32, betaSlow: 1, mscale: 1, mscaleAllDim: 1 };
    const frequencies = ropeInvFreq({ ...V3, ropeScaling: scaling });
    expect([...frequencies].every((frequency) => Number.isFinite(frequency) && frequency > 0)).toBe(true);
  });

  it("is plain RoPE without scaling", () => {
    const frequencies = ropeInvFreq({ ...V3, ropeScaling: null, ropeTheta: 50000, qkRopeHeadDim: 4 });
    expect([...frequencies]).toEqual([1, Math.fround(1 / Math.fround(Math.sqrt(50000)))]);
  });
});

describe("softmaxScale()", () => {
  it("is 0.1352 for DeepSeek-V3, not 192^-0.5", async () => {
    const [expected] = await golden("yarn671.softmax_scale");
    expect(Math.fround(softmaxScale(V3))).toBe(expected);
    expect(softmaxScale(V3)).toBeCloseTo(0.135234, 6);
    expect(cosSinScale(V3)).toBe(1);
  });

  it("squares the mscale of V2-Lite while cos and sin stay unscaled", () => {
    const lite = parseDemoConfig(readJson(`${CONFIGS}config_16B.json`));
    expect(softmaxScale(lite) / 192 ** -0.5).toBeCloseTo(1.5896, 4);
    expect(cosSinScale(lite)).toBe(1);
  });

  it("agrees with the golden attention layer", () => {
    const { mla } = readJson(`${FIXTURES}ops.json`) as { mla: { softmax_scale: number } };
    const scaling = { factor: 4, originalMaxPositionEmbeddings: 64, betaFast: 32, betaSlow: 1, mscale: 1, mscaleAllDim: 1 };
    expect(softmaxScale({ ...V3, qkNopeHeadDim: 16, qkRopeHeadDim: 8, ropeScaling: scaling })).toBeCloseTo(mla.softmax_scale, 12);
  });

  it("is 1/sqrt(d) without scaling, and leaves the softmax alone where mscale_all_dim is 0", () => {
    expect(softmaxScale({ ...V3, ropeScaling: null })).toBe(192 ** -0.5);
    const scaling = { factor: 40, originalMaxPositionEmbeddings: 4096, betaFast: 32, betaSlow: 1, mscale: 1, mscaleAllDim: 0 };
    expect(softmaxScale({ ...V3, ropeScaling: scaling })).toBe(192 ** -0.5);
    expect(cosSinScale({ ...V3, ropeScaling: scaling })).toBeCloseTo(1.36889, 5);
  });
});

describe("kvBytesPerToken()", () => {
  it("is 70,272 bytes for DeepSeek-V3 in f16", () => {
    expect(kvBytesPerToken(V3)).toBe(70_272);
    expect(kvBytesPerToken(V3, "f32")).toBe(140_544);
    expect(kvBytesPerToken(V3, "f16", 1)).toBe(1152);
    expect(kvBytesPerToken(V3, "fp8", 1)).toBe(656);
  });
});
