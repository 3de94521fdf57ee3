/** An engine over fleets of processes, one of which is killed: the answers are the reference's. */
import { existsSync } from "node:fs";
import process from "node:process";
import { DeviceFleet, type FleetMember, type Split, layoutOfSplit } from "@shoal/cluster/deno";
import { Engine, GREEDY, Generator } from "@shoal/engine";
import { dawnAdapters, openDenoGpu } from "@shoal/gpu/deno";
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
  /** Which device is killed in the middle of an answer, of an engine or of a generator. */
  readonly kill?: { readonly device: number; readonly of: "engine" | "generator" };
  readonly mixed?: boolean;
}

/** Two kinds of adapter in one process: Dawn only, which has them by name. */
function members(webgpu: DenoEngine, { devices, mixed = false }: Case): readonly FleetMember[] {
  return Array.from({ length: devices }, (_, index) => ({
    name: `device ${index}`,
    webgpu,
    ...(mixed && {
      adapterName: index % 2 === 0 ? "llvmpipe" : "SwiftShader",
      env: { VK_DRIVER_FILES: [process.env["VK_DRIVER_FILES"], SWIFTSHADER].filter((file) => file !== undefined).join(":") },
    }),
  }));
}

async function answer(
  fleet: DeviceFleet,
  of: "engine" | "generator",
  request: { readonly promptIds: readonly number[]; readonly maxNewTokens: number },
  onTokens: () => void,
): Promise<string> {
  const asked = { ...request, sampling: GREEDY, stopTokenIds: [] };
  const reopen = (): Promise<Stage> => fleet.reopen();
  if (of === "generator") {
    const generator = await Generator.open(fleet.stage, { reopen });
    const { ids } = await generator.generate({ ...asked, onTokens });
    await generator.close();
    return ids.join();
  }
  const engine = await Engine.open(fleet.stage, { drafts: false, reopen });
  const ids: number[] = [];
  for await (const tokens of engine.submit(asked)) {
    onTokens();
    ids.push(...tokens.map(({ id }) => id));
  }
  await engine.close();
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
      (each.kill === undefined ? "" : `, also when one of them is killed in the middle of an answer of the ${each.kill.of}`),
    run: async () => {
      const golden = await readGolden("tiny-capital.safetensors");
      const [ids, expected] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];
      const { config } = await models.checkpoint("tiny");
      const alone = await logits(await models.stage("tiny", options), ids);
      const location = fileURLToPath(tinyModelUrl);
      const fleet = await DeviceFleet.open({
        members: members(gpuEngine, each),
        layout: layoutOfSplit(each.split, each.devices === 2 ? [1, 2] : Array.from({ length: each.devices }, () => 1), config),
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
        let spared = each.kill === undefined;
        const got = await answer(fleet, each.kill?.of ?? "engine", { promptIds: ids, maxNewTokens: expected.length }, () => {
          if (!spared && each.kill) fleet.kill(each.kill.device);
          spared = true;
        });
        check(got === expected.join() && spared, `${got}, expected ${expected.join()}`);
      } finally {
        fleet.close();
      }
    },
  });
  const mixes = gpuEngine === "dawn" && existsSync(SWIFTSHADER);
  if (LONG && gpuEngine === "dawn" && !mixes) report(`one kind of adapter only: there is no ${SWIFTSHADER}`);
  return [
    run({ split: "layers", devices: 2, kill: { device: 1, of: "generator" } }),
    run({ split: "experts", devices: 2, kill: { device: 1, of: "generator" } }),
    run({ split: "both", devices: 2, kill: { device: 1, of: "engine" } }),
    // SwiftShader compiles for a minute.
    ...(LONG && mixes
      ? [
          run({ split: "layers", devices: 2, mixed: true }),
          run({ split: "experts", devices: 3, mixed: true }),
          run({ split: "both", devices: 4, mixed: true }),
        ]
      : []),
    ...(LONG ? [1, 3, 4].flatMap((devices) => (["layers", "experts", "both"] as const).map((split) => run({ split, devices }))) : []),
    ...(gpuEngine === "dawn"
      ? [
          {
            name: "every adapter that Dawn names opens by its name",
            run: async () => {
              const names = (await dawnAdapters()).map(({ name }) => name);
              check(names.length > 0, "there is none");
              for (const adapterName of names) {
                const gpu = await openDenoGpu({ webgpu: "dawn", adapterName });
                await gpu.idle();
                gpu.destroy();
              }
              report(names.join(", "));
            },
          },
        ]
      : []),
    models.closing(),
  ];
}
