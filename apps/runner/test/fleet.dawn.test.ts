/** A plan from devices to an answer: `shoal plan --json`, and what it printed given to `shoal generate --plan`; and experts that are paged. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DenoEngine } from "@shoal/gpu/deno";
import { type GpuTest, check, report } from "@shoal/model/testing";
import { tinyModelUrl } from "@shoal/tiny-model";
import { type ShoalResult, shoal } from "./shoal.ts";

const PROMPT = ["--prompt", "The capital of France is", "--temperature", "0", "--max-new-tokens", "12", "--kv", "f32", "--json"];
const CONFIG = join(fileURLToPath(tinyModelUrl), "config.json");

const llvmpipe = (name: string, memoryBytes: number) => ({
  name,
  adapter: "llvmpipe",
  memoryBytes,
  bytesPerSecond: 2e9,
  flopsPerSecond: 1e10,
});

/** The first has no room for its layers' experts, and the last none for more layers: two helpers have each of those experts' replicas between them and the first. */
const DEVICES = {
  devices: [
    llvmpipe("first", 15e6),
    { ...llvmpipe("helper", 5.5e6), env: { LP_NUM_THREADS: "1" } },
    llvmpipe("another", 5.5e6),
    llvmpipe("last", 28e6),
  ],
  defaultLink: { latencySeconds: 1e-4, bytesPerSecond: 1e9 },
};

interface PrintedPlan {
  readonly stages: readonly {
    readonly device: string;
    readonly experts: number;
    readonly helpers: readonly { readonly experts: number }[];
  }[];
}

export function tests(engine: DenoEngine): readonly GpuTest[] {
  if (engine !== "dawn") return [];
  const folder = mkdtempSync(join(tmpdir(), "shoal-fleet-"));
  const succeeds = (result: ShoalResult): ShoalResult => {
    check(result.code === 0, `it ended with ${result.code}: ${result.stderr}`);
    return result;
  };
  const completion = ({ stdout }: ShoalResult): string => (JSON.parse(stdout) as { readonly completion: string }).completion;
  let alone: Promise<string> | undefined;
  const expected = (): Promise<string> =>
    (alone ??= shoal(["generate", ...PROMPT, "--webgpu", "dawn"]).then((result) => completion(succeeds(result))));
  const file = (name: string, json: unknown): string => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify(json));
    return path;
  };
  return [
    {
      name: "shoal generate --plan places the model as shoal plan says, replicas of experts included, and answers as one device does",
      run: async () => {
        const devices = file("devices.json", DEVICES);
        const options = ["--config", CONFIG, "--devices", devices, "--context", "512", "--replicas", "2", "--kv", "f32", "--json"];
        const printed = succeeds(await shoal(["plan", ...options])).stdout;
        const plan = JSON.parse(printed) as PrintedPlan;
        const shared = plan.stages.find(({ helpers }) => helpers.length > 1);
        check(shared !== undefined && plan.stages.length > 1, printed);
        check(shared.helpers.reduce((sum, helper) => sum + helper.experts, shared.experts) === 2 * 32, printed);
        report(
          plan.stages
            .map(({ device, experts, helpers }) => `${device} ${experts} + ${helpers.map((each) => each.experts).join("+")}`)
            .join(", "),
        );
        const result = succeeds(await shoal(["generate", ...PROMPT, "--plan", file("plan.json", plan)]));
        check(result.stderr.includes("as planned"), result.stderr);
        check(/a token was predicted to take \S+ ms, and took \S+ ms/.test(result.stderr), result.stderr);
        check(completion(result) === (await expected()), `'${completion(result)}', expected '${await expected()}'`);
      },
    },
    {
      name: "shoal generate --expert-memory answers as it does with all experts on the device, and says how paging went",
      run: async () => {
        const result = succeeds(await shoal(["generate", ...PROMPT, "--webgpu", "dawn", "--expert-memory", "4MB"]));
        check(/experts were there, .* read .* of waiting/.test(result.stderr), result.stderr);
        report(result.stderr.trim().split("\n").at(-1) ?? "");
        check(completion(result) === (await expected()), `'${completion(result)}', expected '${await expected()}'`);
      },
    },
    { name: "the folder of plans goes", run: async () => rmSync(folder, { recursive: true }) },
  ];
}
