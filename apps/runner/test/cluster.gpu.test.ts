/** An engine over a fleet of processes, one of which is killed: the answers are the reference's. */
import { DeviceFleet, type FleetMember } from "@shoal/cluster/deno";
import { Engine, GREEDY } from "@shoal/engine";
import { type DenoEngine, type GpuTest, Models, check, readGolden } from "@shoal/model/testing";
import { fileURLToPath } from "node:url";
import { tinyModelUrl } from "@shoal/tiny-model";

async function answer(engine: Engine, promptIds: readonly number[], maxNewTokens: number): Promise<string> {
  const ids: number[] = [];
  for await (const tokens of engine.submit({ promptIds, maxNewTokens, sampling: GREEDY, stopTokenIds: [] }))
    ids.push(...tokens.map(({ id }) => id));
  return ids.join();
}

export function tests(gpuEngine: DenoEngine): readonly GpuTest[] {
  const models = new Models(gpuEngine);
  return [
    ...(["layers", "experts"] as const).map((split) => ({
      name: `the trained model over two devices that share its ${split}, each in a process, answers as the reference does; so it does when one of them has been killed and replaced`,
      run: async () => {
        const golden = await readGolden("tiny-capital.safetensors");
        const [ids, expected] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];
        const { config } = await models.checkpoint("tiny");
        const member = (name: string, share: number): FleetMember => ({ name, share, webgpu: gpuEngine });
        const fleet = await DeviceFleet.open({
          members: [member("one", 1), member("another", 2)],
          split,
          location: fileURLToPath(tinyModelUrl),
          config,
          overrides: false,
          options: { kvFormat: "f32", contextTokens: 256, maxTokens: 64 },
        });
        try {
          const engine = await Engine.open(fleet.stage, { drafts: false, reopen: () => fleet.reopen() });
          for (const when of ["at first", "after a loss"]) {
            const got = await answer(engine, ids, expected.length);
            check(got === expected.join(), `${when}: ${got}, expected ${expected.join()}`);
            if (when === "at first") fleet.kill(1);
          }
          await engine.close();
        } finally {
          fleet.close();
        }
      },
    })),
    models.closing(),
  ];
}
