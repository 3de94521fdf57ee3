/** The Stage contract on a stage of this thread, in a worker and in a process. */
import { type DenoEngine, FIXTURES, type GpuTest, Models } from "@shoal/model/testing";
import { type RemoteDevice, openProcessDevice, openWorkerDevice } from "@shoal/cluster/deno";
import { PipelineStage } from "@shoal/cluster";
import { loadLocalStage } from "@shoal/model";
import { openDenoGpu } from "@shoal/gpu/deno";
import { CONTRACT_MODEL, CONTRACT_OPTIONS, type StageUnderTest, stageContract } from "./support/stageContract.ts";

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  const on = async (opening: Promise<RemoteDevice>): Promise<StageUnderTest> => {
    const device = await opening;
    const stage = await device.loadStage({ location: `${FIXTURES}${CONTRACT_MODEL}`, options: CONTRACT_OPTIONS });
    return { stage, close: () => device.close() };
  };
  const fresh = async () =>
    loadLocalStage(await openDenoGpu({ webgpu: engine }), await models.checkpoint(CONTRACT_MODEL), CONTRACT_OPTIONS);
  return [
    ...stageContract({ name: "local", models, open: async () => ({ stage: await fresh(), close: () => undefined }) }),
    ...stageContract({ name: "worker", models, open: () => on(openWorkerDevice({ webgpu: engine, name: "a worker" })) }),
    ...stageContract({ name: "process", models, open: () => on(openProcessDevice({ webgpu: engine, name: "a process" })) }),
    ...stageContract({
      name: "pipeline of a worker and a process",
      models,
      open: async () => {
        const devices = await Promise.all([
          openWorkerDevice({ webgpu: engine, name: "a worker" }),
          openProcessDevice({ webgpu: engine, name: "a process" }),
        ]);
        const parts = devices.map((device, k) =>
          device.loadStage({
            location: `${FIXTURES}${CONTRACT_MODEL}`,
            options: { ...CONTRACT_OPTIONS, layers: { begin: k, end: k + 1 } },
          }),
        );
        return { stage: await PipelineStage.open(await Promise.all(parts)), close: () => devices.forEach((device) => device.close()) };
      },
    }),
    models.closing(),
  ];
}
