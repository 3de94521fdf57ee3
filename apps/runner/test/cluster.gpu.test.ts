/** An engine over fleets of processes, one of which is killed: the answers are the reference's. */
import { existsSync } from "node:fs";
import process from "node:process";
import { DeviceFleet, type FleetMember, type Split } from "@shoal/cluster/deno";
import { Engine, GREEDY } from "@shoal/engine";
import type { Stage } from "@shoal/model";
import { type DenoEngine, type GpuTest, Models, check, readGolden, report } from "@shoal/model/testing";
import { fileURLToPath } from "node:url";
import { tinyModelUrl } from "@shoal/tiny-model";

const LONG = process.env["SHOAL_LONG"] === "1";
/** Chromium's software driver, a second kind of adapter where Chromium is installed. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
/** Logits on devices of several kinds, or whose experts' sums are added in another order, against those of one device. */
const TOLERANCE = 1e-4;

interface Case {
  readonly split: Split;
  readonly devices: number;
  /** Which device is killed. */
  readonly kill?: number;
  readonly mixed?: boolean;
}

/** Two kinds of adapter in one process: Dawn only, which has them by name. */
function members(webgpu: DenoEngine, { devices, mixed = false }: Case): readonly FleetMember[] {
  return Array.from({ length: devices }, (_, index) => ({
    name: `device ${index}`,
    share: index === 1 && devices === 2 ? 2 : 1,
    webgpu,
    ...(mixed && {
      adapterName: index % 2 === 0 ? "llvmpipe" : "SwiftShader",
      env: { VK_DRIVER_FILES: [process.env["VK_DRIVER_FILES"], SWIFTSHADER].filter((file) => file !== undefined).join(":") },
    }),
  }));
}

async function answer(engine: Engine, promptIds: readonly number[], maxNewTokens: number): Promise<string> {
  const ids: number[] = [];
  for await (const tokens of engine.submit({ promptIds, maxNewTokens, sampling: GREEDY, stopTokenIds: [] }))
    ids.push(...tokens.map(({ id }) => id));
  return ids.join();
}

async function logits(stage: Stage, tokens: readonly number[]): Promise<Float32Array> {
  const sequence = await stage.open();
  const { logits: rows = new Float32Array() } = await stage.forward({ entries: [{ sequence, tokens }], output: "allLogits" });
  await stage.close(sequence);
  return rows;
}

function distance(actual: Float32Array, expected: Float32Array): number {
  check(actual.length === expected.length && actual.length > 0, `${actual.length} logits, expected ${expected.length}`);
  return expected.reduce((worst, value, index) => Math.max(worst, Math.abs(value - (actual[index] ?? Number.NaN))), 0);
}

export function tests(gpuEngine: DenoEngine): readonly GpuTest[] {
  const models = new Models(gpuEngine);
  const options = { kvFormat: "f32", contextTokens: 256, maxTokens: 64, maxOutputs: 64 } as const;
  const run = (each: Case): GpuTest => ({
    name:
      `the trained model over ${each.devices} devices that share its ${each.split === "both" ? "layers and experts" : each.split}, each in a process` +
      `${each.mixed === true ? ", of two kinds of adapter in turn" : ""}, answers as the reference does, its logits those of one device` +
      `${each.kill === undefined ? "" : "; so it does when one of them has been killed and replaced"}`,
    run: async () => {
      const golden = await readGolden("tiny-capital.safetensors");
      const [ids, expected] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];
      const { config } = await models.checkpoint("tiny");
      const alone = await logits(await models.stage("tiny", options), ids);
      const location = fileURLToPath(tinyModelUrl);
      const fleet = await DeviceFleet.open({
        members: members(gpuEngine, each),
        split: each.split,
        location,
        config,
        overrides: false,
        options,
      });
      try {
        const off = distance(await logits(fleet.stage, ids), alone);
        // Layers in a row on adapters of one kind are the same sums.
        const most = each.split === "layers" && each.mixed !== true ? 0 : TOLERANCE;
        check(off <= most, `logits are off by ${off}, expected at most ${most}`);
        if (each.split !== "layers" || each.mixed === true) report(`logits within ${off.toExponential(1)}; ${fleet.adapters.join(", ")}`);
        const engine = await Engine.open(fleet.stage, { drafts: false, reopen: () => fleet.reopen() });
        for (const when of each.kill === undefined ? ["at first"] : ["at first", "after a loss"]) {
          const got = await answer(engine, ids, expected.length);
          check(got === expected.join(), `${when}: ${got}, expected ${expected.join()}`);
          if (when === "at first" && each.kill !== undefined) fleet.kill(each.kill);
        }
        await engine.close();
      } finally {
        fleet.close();
      }
    },
  });
  const mixes = gpuEngine === "dawn" && existsSync(SWIFTSHADER);
  if (gpuEngine === "dawn" && !mixes) report(`one kind of adapter only: there is no ${SWIFTSHADER}`);
  return [
    run({ split: "layers", devices: 2, kill: 1 }),
    run({ split: "experts", devices: 2, kill: 1 }),
    run({ split: "both", devices: LONG ? 3 : 2, kill: 1 }),
    ...(mixes ? [run({ split: "both", devices: LONG ? 4 : 2, mixed: true })] : []),
    ...(LONG
      ? [1, 2, 3, 4].flatMap((devices) =>
          (["layers", "experts", "both"] as const).map((split) => run({ split, devices, ...(mixes && devices > 1 && { mixed: true }) })),
        )
      : []),
    ...(LONG ? [run({ split: "layers", devices: 4 }), run({ split: "both", devices: 4 })] : []),
    models.closing(),
  ];
}
