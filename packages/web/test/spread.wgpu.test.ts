/** A model's first layers on one device and its last on a second, as the page has them where the first runs out of memory. */
import { GpuError } from "@shoal/gpu";
import { openDenoGpu } from "@shoal/gpu/deno";
import { type Stage, loadLocalStage } from "@shoal/model";
import { type DenoEngine, type GpuTest, Models, check, readGolden } from "@shoal/model/testing";
import type { SecondDevice } from "../src/secondDevice.ts";
import { loadSpread } from "../src/spread.ts";

const MODEL = "ragged-v3-fp8";
const OPTIONS = { kvFormat: "f32", contextTokens: 256, maxTokens: 64, maxOutputs: 64 } as const;

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  const logits = async (stage: Stage, tokens: readonly number[]): Promise<string> => {
    const sequence = await stage.open();
    const { logits: rows = new Float32Array() } = await stage.forward({ entries: [{ sequence, tokens }], output: "allLogits" });
    await stage.close(sequence);
    return rows.join();
  };
  return [
    {
      name: "a model that one GPU has no memory for is spread over it and a second one, and gives the same logits",
      run: async () => {
        const checkpoint = await models.checkpoint(MODEL);
        const ids = (await readGolden(`${MODEL}-golden.safetensors`)).ints("case2.input_ids").slice(0, 20);
        const progress: number[] = [];
        let opened = 0;
        let closed = 0;
        const openGpu = async () => {
          const gpu = await openDenoGpu({ webgpu: engine });
          // The first time it has no memory.
          if (opened++ === 0)
            Object.assign(gpu, {
              buffer: () => {
                throw new GpuError("GpuOutOfMemoryError", "Cannot allocate: there is no memory, expected some");
              },
            });
          return gpu;
        };
        const second: SecondDevice = {
          bytesPerSecond: 1e9,
          load: async ({ layers, options }, onProgress) =>
            loadLocalStage(await openDenoGpu({ webgpu: engine }), checkpoint, { ...options, layers, onProgress }),
          close: () => closed++,
        };
        const request = {
          openGpu,
          checkpoint,
          options: OPTIONS,
          onProgress: ({ loadedBytes }: { loadedBytes: number }) => progress.push(loadedBytes),
        };
        const alone = loadSpread({ ...request, spread: "if-needed", openSecond: async () => undefined });
        await alone.then(
          () => check(false, "it was loaded without memory"),
          (error: unknown) => check(error instanceof Error && error.name === "GpuOutOfMemoryError", String(error)),
        );
        opened = 0;
        const { stage, whole, second: used } = await loadSpread({ ...request, spread: "if-needed", openSecond: async () => second });
        check(used === second && opened === 2 && closed === 0, `${opened} devices were opened, ${closed} closed`);
        const { layers } = await stage.describe();
        check(layers.begin === 0 && layers.end === 1, `layers ${layers.begin} to ${layers.end} are on the first`);
        check((progress.at(-1) ?? 0) > 0, "no progress was told");
        const [got, want] = [await logits(whole, ids), await logits(await models.stage(MODEL, OPTIONS), ids)];
        check(got === want, "the logits are not those of one device");
        await whole.destroy();
      },
    },
    models.closing(),
  ];
}
