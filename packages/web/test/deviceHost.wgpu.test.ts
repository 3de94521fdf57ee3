/** A page's device as a swarm's: layers whose experts are partly on another page's device give what they give whole. */
import { type FrameChannel, remoteStage } from "@shoal/cluster";
import { openDenoGpu } from "@shoal/gpu/deno";
import type { LayerRange } from "@shoal/model";
import { type DenoEngine, type GpuTest, Models, check } from "@shoal/model/testing";
import type { SwarmMember } from "@shoal/swarm";
import { type DeviceHost, deviceHost } from "../src/swarm/deviceHost.ts";

const LAYERS = { begin: 1, end: 3 } satisfies LayerRange;
const SIZES = { contextTokens: 64, maxSequences: 1, kvTokens: 64, mtp: false };
const OWN = 8;

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  const host = (): DeviceHost =>
    deviceHost(
      new AbortController().signal,
      () => undefined,
      () => openDenoGpu({ webgpu: engine }),
    );
  const rowsOf = async (channel: FrameChannel, input: Float32Array<ArrayBuffer>): Promise<Float32Array> => {
    const stage = remoteStage(channel, { peer: "the page" });
    const sequence = await stage.open();
    const { hidden = new Float32Array() } = await stage.forward({
      entries: [{ sequence, tokens: [1, 2, 3], hidden: input }],
      output: "hidden",
    });
    await stage.destroy();
    return hidden;
  };
  return [
    {
      name: "layers with some of their experts on another device, or all of them, give what they give whole; a device takes one after the other",
      run: async () => {
        const checkpoint = await models.checkpoint("tiny");
        const { hiddenSize, nRoutedExperts } = checkpoint.config;
        const member = { checkpoint } as Pick<SwarmMember, "checkpoint"> as SwarmMember;
        const input = Float32Array.from({ length: 3 * hiddenSize }, (_, index) => Math.sin(index * 0.37));
        const [stage, helper] = [host(), host()];
        const { bytesPerSecond, readbackMs } = await helper.measure();
        check(bytesPerSecond > 0 && readbackMs > 0, `${bytesPerSecond} bytes a second, ${readbackMs} ms`);
        await stage.load(LAYERS, SIZES, member);
        const whole = await rowsOf(await stage.connect(), input);
        for (const own of [OWN, 0]) {
          await stage.unload();
          const shard = await helper.loadExperts({ layers: LAYERS, begin: own, end: nRoutedExperts, maxTokens: 16 }, member);
          await stage.load(LAYERS, SIZES, member, { own, shard });
          const rows = await rowsOf(await stage.connect(), input);
          const largest = Math.max(...whole.map(Math.abs));
          const off = Math.max(...rows.map((value, index) => Math.abs(value - (whole[index] ?? Number.NaN))));
          check(rows.length === whole.length && off < 1e-4 * largest, `${own} experts of its own: off by ${off} of ${largest}`);
          await helper.unload();
        }
        await stage.unload();
      },
    },
    models.closing(),
  ];
}
