import { readFileSync } from "node:fs";
import { type ModelConfig, parseConfigText, tensorSchema } from "@shoal/checkpoint";
import { expect, test } from "vitest";
import { estimate } from "./estimate.ts";
import { KNOWN_MODELS } from "./knownModels.ts";

/** WebGPU promises these everywhere. */
const LEAST = { maxStorageBufferBindingSize: 128 * 2 ** 20, maxBufferSize: 256 * 2 ** 20 } as GPUSupportedLimits;

function configOf(file: string, nMtpLayers: number): ModelConfig {
  const url = new URL(`../../../configs/${file}.json`, import.meta.url);
  return { ...parseConfigText(readFileSync(url, "utf8"), file), nMtpLayers, maxPositionEmbeddings: 163_840 };
}

/** As published: what repeats another tensor is in the files too. */
function publishedBytes(config: ModelConfig): number {
  let bytes = 0;
  for (const { shape, kind, scaleShape } of tensorSchema(config)) {
    const count = shape.reduce((product, size) => product * size, 1);
    bytes += kind === "fp8Block" ? count : 2 * count;
    if (scaleShape) bytes += 4 * scaleShape[0] * scaleShape[1];
  }
  return bytes;
}

test.each([
  ["config_16B", 0, "deepseek-ai/DeepSeek-V2-Lite-Chat"],
  ["config_671B", 1, "deepseek-ai/DeepSeek-V3.1"],
])("KNOWN_MODELS says what %s takes, and that its bindings fit every device", (file, nMtpLayers, repo) => {
  const known = KNOWN_MODELS.find((model) => model.repo === repo);
  const published = publishedBytes(configOf(file, nMtpLayers));
  expect(Math.abs((known?.downloadBytes ?? 0) - published) / published).toBeLessThan(0.001);
  const { gpuBytes, refusal } = estimate(
    { limits: LEAST, dialect: {}, adapter: { isSoftware: false } } as unknown as Parameters<typeof estimate>[0],
    configOf(file, 0),
  );
  expect(refusal).toBeNull();
  expect(Math.abs((known?.gpuBytes ?? 0) - gpuBytes) / gpuBytes).toBeLessThan(0.01);
});
