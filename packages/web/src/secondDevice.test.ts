import { portChannel, serveStage } from "@shoal/cluster";
import type { Stage, StageDescription } from "@shoal/model";
import { expose } from "comlink";
import { describe, expect, it } from "vitest";
import { distinctPreferences } from "./adapters.ts";
import { openSecondDevice } from "./secondDevice.ts";
import type { SecondStageRequest } from "./stageHost.ts";

/** A `navigator.gpu` whose adapters call themselves so; null where it has none for a preference. */
function gpuOf(adapters: Readonly<Record<GPUPowerPreference, Partial<GPUAdapterInfo> | null>>): Pick<GPU, "requestAdapter"> {
  return {
    requestAdapter: async ({ powerPreference = "high-performance" } = {}) => {
      const info = adapters[powerPreference];
      return info && ({ info: { vendor: "", architecture: "", device: "", description: "", ...info } } as GPUAdapter);
    },
  };
}

const FAST = { vendor: "nvidia", architecture: "ampere" };
const SAVING = { vendor: "intel", architecture: "xe" };
const TWO = gpuOf({ "high-performance": FAST, "low-power": SAVING });

describe("distinctPreferences()", () => {
  it("names both where the fast GPU is not the one that saves power, and one where they are the same, or there is no other", async () => {
    expect(await distinctPreferences(TWO)).toEqual(["high-performance", "low-power"]);
    expect(await distinctPreferences(gpuOf({ "high-performance": FAST, "low-power": { ...FAST } }))).toEqual(["high-performance"]);
    expect(await distinctPreferences(gpuOf({ "high-performance": FAST, "low-power": null }))).toEqual(["high-performance"]);
    expect(await distinctPreferences(gpuOf({ "high-performance": null, "low-power": SAVING }))).toEqual(["low-power"]);
    expect(await distinctPreferences(gpuOf({ "high-performance": null, "low-power": null }))).toEqual([]);
  });

  it("does not count a processor that stands in for a GPU", async () => {
    const fallback = { vendor: "google", isFallbackAdapter: true };
    expect(await distinctPreferences(gpuOf({ "high-performance": FAST, "low-power": fallback }))).toEqual(["high-performance"]);
  });
});

const DESCRIPTION: StageDescription = {
  layers: { begin: 4, end: 6 },
  hasEmbedding: false,
  hasHead: true,
  hasMtp: false,
  maxDrafts: 0,
  chainsDrafts: false,
  vocabSize: 100,
  contextTokens: 256,
  maxSequences: 4,
  maxTokens: 64,
  maxOutputs: 8,
  memory: {},
  freeKvBlocks: 32,
  kvBlockSize: 32,
};

/** A worker in this thread: its host opens whatever it is asked for, and serves a stage that only describes itself. */
function fakeWorker(asked: unknown[]): Worker {
  const { port1, port2 } = new MessageChannel();
  const host = {
    open: (preference: GPUPowerPreference): number => {
      asked.push(preference);
      return 5e9;
    },
    load: async (request: SecondStageRequest, port: MessagePort, onProgress: (progress: unknown) => void): Promise<void> => {
      asked.push(request.layers);
      onProgress({ loadedBytes: 7, totalBytes: 7 });
      const stage = { describe: async () => DESCRIPTION, destroy: async () => undefined } as unknown as Stage;
      void serveStage(portChannel(port), stage);
    },
  };
  expose(host, port2);
  return Object.assign(port1, { terminate: () => asked.push("terminated") }) as unknown as Worker;
}

const SOURCE = { kind: "folder", url: "https://models.example/tiny/" } as const;

describe("openSecondDevice()", () => {
  it("starts a worker for the GPU that saves power, and loads a stage there", async () => {
    const asked: unknown[] = [];
    const second = await openSecondDevice(TWO, SOURCE, false, () => fakeWorker(asked));
    if (!second) throw new Error("there is none");
    expect(second.bytesPerSecond).toBe(5e9);
    const { layers } = DESCRIPTION;
    const progress: unknown[] = [];
    const stage = await second.load({ layers, options: {} }, (report) => progress.push(report));
    expect(await stage.describe()).toEqual(DESCRIPTION);
    expect(progress).toEqual([{ loadedBytes: 7, totalBytes: 7 }]);
    second.close();
    expect(asked).toEqual(["low-power", layers, "terminated"]);
  });

  it("starts nothing where there is one GPU, or none", async () => {
    const start = (): Worker => {
      throw new Error("a worker was started");
    };
    expect(await openSecondDevice(gpuOf({ "high-performance": FAST, "low-power": FAST }), SOURCE, false, start)).toBeUndefined();
    expect(await openSecondDevice(undefined, SOURCE, false, start)).toBeUndefined();
  });
});
