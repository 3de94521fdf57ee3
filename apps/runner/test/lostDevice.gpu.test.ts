/** The server's worker goes on with what runs when its device is lost. */
import { GREEDY, type GeneratedToken } from "@shoal/engine";
import type { GpuContext } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { tinyModelUrl } from "@shoal/tiny-model";
import { GpuHost } from "../src/gpu/host.ts";

interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

const PROMPT = [0, 300, 400, 500];
const TOKENS = 24;

type OnTokens = Parameters<GpuHost["submit"]>[2];

export function tests(webgpu: DenoEngine): readonly GpuTest[] {
  return [
    {
      name: "an answer goes on where it was when the device is lost, and further ones are given by the next device",
      run: async () => {
        const contexts: GpuContext[] = [];
        const host = new GpuHost(async (options) => {
          const gpu = await openDenoGpu(options);
          contexts.push(gpu);
          return gpu;
        });
        await host.open({ webgpu, adapterName: undefined, tuning: false });
        const load = {
          location: tinyModelUrl.pathname,
          config: undefined,
          mode: "w8a32",
          kvFormat: "f16",
          contextTokens: 512,
          maxSequences: 2,
        } as const;
        await host.load(load, (async () => {}) as unknown as Parameters<GpuHost["load"]>[1]);
        await host.openEngine({ size: 0, tokens: [], marks: {}, stopTokenIds: [] });
        let next = 0;
        const answer = async (lostAfter?: number): Promise<string> => {
          const ids: number[] = [];
          const take = async (tokens: readonly GeneratedToken[]): Promise<void> => {
            ids.push(...tokens.map(({ id }) => id));
            if (lostAfter !== undefined && ids.length >= lostAfter && contexts.length === 1) contexts[0]?.device.destroy();
          };
          const sampling = { ...GREEDY, frequencyPenalty: 0.5 };
          await host.submit(next++, { promptIds: PROMPT, maxNewTokens: TOKENS, sampling, stopTokenIds: [] }, take as unknown as OnTokens);
          return ids.join();
        };
        const whole = await answer();
        const interrupted = await answer(5);
        if (contexts.length !== 2) throw new Error(`${contexts.length} devices were opened, expected 2`);
        if (interrupted !== whole) throw new Error(`${interrupted} after the loss, expected ${whole}`);
        const later = await answer();
        if (later !== whole) throw new Error(`${later} on the next device, expected ${whole}`);
        await host.closeEngine();
        for (const gpu of contexts) gpu.destroy();
      },
    },
  ];
}
