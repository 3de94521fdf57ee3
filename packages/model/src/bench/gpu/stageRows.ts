/** Rows that share a loaded stage: loads it when one of them is wanted, and frees the device's memory after the last. */
import { type CheckpointSource, tensorSchema } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import { type LocalStage, type LocalStageOptions, loadLocalStage, stagePlan } from "../../localStage.ts";
import { checkAdapter, memoryRequirements } from "../../requirements.ts";
import type { Arithmetic, GpuRowName } from "./rows.ts";
import { type Measured, type Run, offeredArithmetic } from "./run.ts";

export interface LoadedStage {
  readonly stage: LocalStage;
  readonly checkpoint: CheckpointSource;
  /** What the device offers: as precise as its results may be compared. */
  readonly arithmetic: Arithmetic;
}

export interface StageRow {
  readonly name: GpuRowName;
  readonly what: string;
  /** Whether it runs products of many tokens, which there are two ways to compute. */
  readonly many: boolean;
  /** Measured without subgroup matrices too, where there are any. */
  readonly both?: boolean;
  readonly measure: (loaded: LoadedStage) => Promise<Measured>;
}

export interface StageToLoad {
  readonly checkpoint: () => Promise<CheckpointSource>;
  readonly options: LocalStageOptions;
}

export async function stageRows(run: Run, toLoad: StageToLoad, rows: readonly StageRow[]): Promise<void> {
  const wanted = rows.filter(({ name }) => run.wants(name));
  const byMatrices = await rowsOn(run, toLoad, wanted, true);
  await rowsOn(
    run,
    toLoad,
    byMatrices.filter(({ both }) => both === true),
    false,
  );
}

/** @returns the rows that ran on subgroup matrices */
async function rowsOn(
  run: Run,
  { checkpoint: open, options }: StageToLoad,
  rows: readonly StageRow[],
  subgroupMatrix: boolean,
): Promise<readonly StageRow[]> {
  const [first] = rows;
  if (!first) return [];
  let gpu: GpuContext | undefined;
  let stage: LocalStage | undefined;
  let checkpoint: CheckpointSource | undefined;
  let arithmetic: Arithmetic = "plain";
  const head = ({ name, what, many }: StageRow) => ({ name, what, arithmetic: many ? arithmetic : ("plain" as const) });
  try {
    try {
      run.phase(first.name, "opening the device");
      gpu = await run.open({ subgroupMatrix });
      arithmetic = offeredArithmetic(gpu);
      checkpoint = await open();
      checkAdapter(gpu.limits, checkpoint, { ...stagePlan(checkpoint.config, options), kvFormat: options.kvFormat ?? "f16" });
      await makeRoom(gpu, neededBytes(checkpoint, options));
      stage = await loadLocalStage(gpu, checkpoint, {
        ...options,
        onProgress: progressOf(run, first.name),
        ...(run.signal && { signal: run.signal }),
      });
    } catch (error) {
      for (const row of rows) run.refuse(head(row), error);
      return [];
    }
    const loaded = { stage, checkpoint, arithmetic };
    const byMatrices: StageRow[] = [];
    for (const row of rows) {
      const used = await run.measure(head(row), () => row.measure(loaded));
      if (used === "subgroup matrices") byMatrices.push(row);
    }
    return byMatrices;
  } finally {
    await checkpoint?.close();
    gpu?.destroy();
  }
}

function neededBytes(checkpoint: CheckpointSource, options: LocalStageOptions): number {
  const { config, tensors } = checkpoint;
  const plan = stagePlan(config, options);
  const { begin, end } = plan.layers;
  let weights = 0;
  for (const { name, scaleName = "", layer, duplicateOf } of tensorSchema(config)) {
    const outside = name === "model.embed_tokens.weight" ? begin === 0 : end === config.nLayers;
    if (duplicateOf !== null || !(layer === null ? outside : layer >= begin && layer < end)) continue;
    weights += (tensors.tensors.get(name)?.byteLength ?? 0) + (tensors.tensors.get(scaleName)?.byteLength ?? 0);
  }
  const { kvCache, activations } = memoryRequirements(checkpoint, { ...plan, kvFormat: options.kvFormat ?? "f16" });
  return weights + (kvCache * (end - begin)) / config.nLayers + activations;
}

const ROOM_BYTES = 2 ** 30;

/**
 * Takes the memory that a stage needs and gives it back, so that a device that is too small says so before gigabytes are written.
 * @throws GpuError named GpuOutOfMemoryError
 */
async function makeRoom(gpu: GpuContext, bytes: number): Promise<void> {
  const size = Math.min(ROOM_BYTES, gpu.limits.maxBufferSize);
  const buffers: GPUBuffer[] = [];
  try {
    await gpu.scoped(`take ${(bytes / 1e9).toPrecision(3)} GB of the device's memory`, () => {
      for (let taken = 0; taken < bytes; taken += size) buffers.push(gpu.buffer({ label: "room", size, kind: "scratch" }));
    });
  } finally {
    for (const buffer of buffers) gpu.destroyBuffer(buffer);
    // Until the queue has passed, the memory is not free.
    gpu.submit([]);
    await gpu.idle();
  }
}

/** Between two reports of a load. */
const REPORT_MS = 2000;

function progressOf(run: Run, row: GpuRowName): NonNullable<LocalStageOptions["onProgress"]> {
  let reportedAt = performance.now();
  return ({ loadedBytes, totalBytes }) => {
    const now = performance.now();
    if (now - reportedAt < REPORT_MS) return;
    reportedAt = now;
    run.phase(row, `loading, ${(loadedBytes / 1e9).toPrecision(3)} of ${(totalBytes / 1e9).toPrecision(3)} GB`);
  };
}
