/** A model's first layers on one device and its last on a second, or only some of its experts on the GPU, as the page has them where that runs out of memory. */
import { type GpuContext, GpuError } from "@shoal/gpu";
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
        let closed = 0;
        const { openGpu, opened } = devices(engine, 1);
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
        const { stage, whole, second: used } = await loadSpread({ ...request, spread: "if-needed", openSecond: async () => second });
        check(used === second && opened() === 2 && closed === 0, `${opened()} devices were opened, ${closed} closed`);
        const { layers } = await stage.describe();
        check(layers.begin === 0 && layers.end === 1, `layers ${layers.begin} to ${layers.end} are on the first`);
        check((progress.at(-1) ?? 0) > 0, "no progress was told");
        const [got, want] = [await logits(whole, ids), await logits(await models.stage(MODEL, OPTIONS), ids)];
        check(got === want, "the logits are not those of one device");
        await whole.destroy();
      },
    },
    {
      name: "a model that the only GPU has no memory for runs with as many experts as it has memory for, and gives the same logits; with spread: never it is refused",
      run: async () => {
        const checkpoint = await models.checkpoint(MODEL);
        const ids = (await readGolden(`${MODEL}-golden.safetensors`)).ints("case2.input_ids").slice(0, 20);
        const request = { checkpoint, options: OPTIONS, onProgress: undefined, openSecond: async () => undefined };
        const refused = loadSpread({ ...request, openGpu: devices(engine, 1).openGpu, spread: "never" });
        await refused.then(
          () => check(false, "it was loaded without memory"),
          (error: unknown) => check(error instanceof Error && error.name === "GpuOutOfMemoryError", String(error)),
        );
        // Neither for all nor for half.
        const { openGpu, opened } = devices(engine, 2);
        const { whole, paged } = await loadSpread({ ...request, openGpu, spread: "if-needed" });
        check(opened() === 3 && paged !== undefined, `${opened()} devices were opened`);
        const { expertBytes, allBytes, experts } = paged;
        check(expertBytes < allBytes / 2 && expertBytes * 4 >= allBytes, `${expertBytes} of ${allBytes} bytes of experts`);
        const sequence = await whole.open();
        const { logits: got = new Float32Array() } = await whole.forward({ entries: [{ sequence, tokens: ids }], output: "allLogits" });
        const want = (await logits(await models.stage(MODEL, OPTIONS), ids)).split(",").map(Number);
        const off = got.reduce((most, value, index) => Math.max(most, Math.abs(value - (want[index] ?? Number.NaN))), 0);
        check(got.length === want.length && off < 1e-4, `logits are off by ${off}`);
        check(experts.paging.loads > 0 && experts.paging.needed > 0, "nothing was paged");
        await whole.destroy();
      },
    },
    models.closing(),
  ];
}

/** Opens devices, the first of which have no memory. */
function devices(webgpu: DenoEngine, without: number): { readonly openGpu: () => Promise<GpuContext>; readonly opened: () => number } {
  let count = 0;
  return {
    opened: () => count,
    openGpu: async () => {
      const gpu = await openDenoGpu({ webgpu });
      const buffer = (): never => {
        throw new GpuError("GpuOutOfMemoryError", "Cannot allocate: there is no memory, expected some");
      };
      return count++ < without ? Object.assign(gpu, { buffer }) : gpu;
    },
  };
}
