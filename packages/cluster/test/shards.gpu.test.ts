/** The ExpertShard contract on a shard of this thread, in a worker and in a process; and the Stage contract on a stage whose experts are spread over all three. */
import { openDenoGpu } from "@shoal/gpu/deno";
import { type LocalExpertShard, loadLocalExpertShard, loadLocalStage } from "@shoal/model";
import { type DenoEngine, FIXTURES, type GpuTest, Models } from "@shoal/model/testing";
import { type ShardMember, ShardedExperts } from "@shoal/cluster";
import { type RemoteDevice, openProcessDevice, openWorkerDevice } from "@shoal/cluster/deno";
import { SHARD_MODEL, SHARD_OPTIONS, type ShardContract, shardContract } from "./support/shardContract.ts";
import { CONTRACT_MODEL, CONTRACT_OPTIONS, stageContract } from "./support/stageContract.ts";

const LOCATION = `${FIXTURES}${SHARD_MODEL}`;

export async function tests(engine: DenoEngine): Promise<readonly GpuTest[]> {
  const models = new Models(engine);
  const { config } = await models.checkpoint(SHARD_MODEL);
  const here = async (): Promise<LocalExpertShard> =>
    loadLocalExpertShard(await models.gpu(), await models.checkpoint(SHARD_MODEL), SHARD_OPTIONS);
  let reference: Promise<LocalExpertShard> | undefined;
  const suite = { local: () => (reference ??= here()), hiddenSize: config.hiddenSize, slots: config.nActivatedExperts };
  const on = (opening: () => Promise<RemoteDevice>, activations: "f32" | "f16" | "fp8" = "f32"): ShardContract["open"] => {
    return async () => {
      const device = await opening();
      return { shard: await device.loadShard({ location: LOCATION, options: SHARD_OPTIONS, activations }), close: () => device.close() };
    };
  };
  const worker = (): Promise<RemoteDevice> => openWorkerDevice({ webgpu: engine, name: "a worker" });
  const process = (): Promise<RemoteDevice> => openProcessDevice({ webgpu: engine, name: "a process" });
  return [
    ...shardContract({ ...suite, name: "local", open: async () => ({ shard: await here(), close: () => undefined }) }),
    ...shardContract({ ...suite, name: "worker, f16 rows", open: on(worker, "f16"), tolerance: 2e-3 }),
    ...shardContract({ ...suite, name: "process", open: on(process) }),
    ...stageContract({
      name: "experts here, in a worker and in a process",
      models,
      tolerance: 1e-4,
      open: async () => {
        const checkpoint = await models.checkpoint(CONTRACT_MODEL);
        const { nDenseLayers, nLayers, nMtpLayers, nRoutedExperts } = checkpoint.config;
        const layers = Array.from({ length: nLayers + nMtpLayers - nDenseLayers }, (_, index) => nDenseLayers + index);
        // Every third expert each; the first three everywhere.
        const share = (member: number) => ({
          maxTokens: CONTRACT_OPTIONS.maxTokens,
          experts: layers.map((layer) => ({
            layer,
            experts: Array.from({ length: nRoutedExperts }, (_, expert) => expert).filter((expert) => expert % 3 === member || expert < 3),
          })),
        });
        const gpu = await openDenoGpu({ webgpu: engine });
        const devices = await Promise.all([worker(), process()]);
        const members: ShardMember[] = [{ name: "here", shard: await loadLocalExpertShard(gpu, checkpoint, share(0)) }];
        for (const [index, device] of devices.entries())
          members.push({ name: device.name, shard: await device.loadShard({ location: LOCATION, options: share(index + 1) }) });
        const experts = await ShardedExperts.open(members);
        const stage = await loadLocalStage(gpu, checkpoint, { ...CONTRACT_OPTIONS, experts });
        return { stage, close: () => devices.forEach((device) => device.close()) };
      },
    }),
    models.closing(),
  ];
}
