/** The second GPU of a page, in a worker of its own: the engine's worker asks it for a stage of the last layers. */
import { portChannel, remoteStage } from "@shoal/cluster";
import type { LoadProgress, Stage } from "@shoal/model";
import { type Remote, proxy, transfer, wrap } from "comlink";
import { distinctPreferences } from "./adapters.ts";
import type { ModelSource } from "./protocol.ts";
import type { SecondStageRequest, StageHost } from "./stageHost.ts";

export interface SecondDevice {
  /** As measured, for dividing layers. */
  readonly bytesPerSecond: number;
  load(request: Pick<SecondStageRequest, "layers" | "options">, onProgress: (progress: LoadProgress) => void): Promise<Stage>;
  /** Ends the worker, and its GPU with it. */
  close(): void;
}

/** Starts what `stageWorker.ts` is, in a thread of its own. */
export function startStageWorker(): Worker {
  return new Worker(new URL("./stageWorker.ts", import.meta.url), { type: "module", name: "shoal second GPU" });
}

/** @returns undefined where there is no second GPU that differs from the first */
export async function openSecondDevice(
  gpu: Pick<GPU, "requestAdapter"> | undefined,
  source: ModelSource,
  stream: boolean,
  start: () => Worker = startStageWorker,
): Promise<SecondDevice | undefined> {
  const [, preference] = gpu ? await distinctPreferences(gpu) : [];
  if (preference === undefined) return undefined;
  const worker = start();
  const host: Remote<StageHost> = wrap<StageHost>(worker);
  // Whoever waits for the worker when it dies would wait for ever.
  const death = new Promise<never>((_, reject) => {
    worker.addEventListener("error", ({ message }) => reject(new Error(`Cannot use the second GPU: its worker died: ${message}`)));
  });
  // Nobody may be waiting when it happens.
  death.catch(() => {});
  const alive = <T>(call: Promise<T>): Promise<T> => Promise.race([call, death]);
  try {
    const bytesPerSecond = await alive(host.open(preference));
    return {
      bytesPerSecond,
      load: async (request, onProgress) => {
        const { port1, port2 } = new MessageChannel();
        const channel = portChannel(port1, () => port1.close());
        death.catch((error: Error) => channel.close(error.message));
        await alive(host.load({ ...request, source, stream }, transfer(port2, [port2]), proxy(onProgress) as never));
        return remoteStage(channel, { peer: "the second GPU" });
      },
      close: () => worker.terminate(),
    };
  } catch (error) {
    worker.terminate();
    throw error;
  }
}
