/** `shoal plan`: where a model's layers and experts would go on given devices, how fast that would be, and why. Loads nothing. */
import { DEFAULT_WORKLOAD, type Fleet, type NoPlan, type Plan, devicesOfPlan, modelCosts, parseFleet, place } from "@shoal/cluster";
import type { Command, Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { formatBytes, formatCount, formatTable } from "../format.ts";
import { readConfig, readJson } from "../model/openModel.ts";
import { contextTokens } from "../model/runOptions.ts";

export const planCommand: Command = {
  name: "plan",
  summary: "plan which device computes which layers and experts of a model, and predict its speed",
  arguments: "",
  maxWords: 0,
  options: ["config", "devices", "kv", "context", "chunk", "prompt-tokens", "new-tokens", "activations", "replicas", "json"],
  notes: [
    "--devices FILE names a JSON file: {devices: [{name, adapter?, env?, memoryBytes, bytesPerSecond, flopsPerSecond, layerSeconds?, stepSeconds?, readbackSeconds?}], links: [{between: [a, b], latencySeconds, bytesPerSecond}], defaultLink?}.",
    'adapter is part of the name that Dawn knows the device by, if that is not its own; env says which GPU its process gets where several have one name, such as {"DRI_PRIME": "pci-0000_65_00_0!"}.',
    "Example: shoal plan --config configs/config_671B.json --devices configs/fleets/example.json --json > plan.json; chat, generate and serve take it as --plan plan.json.",
  ],
  run: runPlan,
};

async function runPlan({ values, terminal }: Invocation): Promise<number> {
  if (values.config === undefined) throw new UsageError("Cannot plan without a model, expected '--config FILE'", "plan");
  // A list for the other commands: a comma in a file's name is none here.
  const file = values.devices?.join(",");
  if (file === undefined) throw new UsageError("Cannot plan without devices, expected '--devices FILE'", "plan");
  const config = await readConfig(values.config);
  const fleet = parseFleet(await readJson(file, "a file of devices"));
  const kvFormat = values.kv ?? "f16";
  const context = contextTokens(values, config);
  const work = {
    contextTokens: context,
    kvTokens: context,
    ...(values.chunk !== undefined && { chunkTokens: values.chunk }),
    ...(values["prompt-tokens"] !== undefined && { promptTokens: values["prompt-tokens"] }),
    ...(values["new-tokens"] !== undefined && { newTokens: values["new-tokens"] }),
    ...(values.replicas !== undefined && { replicas: values.replicas }),
    activations: values.activations ?? DEFAULT_WORKLOAD.activations,
  };
  // 'serve' drafts with the MTP module.
  const plan = place(modelCosts(config, kvFormat, { mtp: true }), fleet, work);
  if (values.json === true) {
    const speeds = plan.fits && { decodeTokensPerSecond: 1 / plan.decodeSeconds, prefillTokensPerSecond: 1 / plan.prefillSecondsPerToken };
    const { activations } = work;
    const devices = plan.fits && { devices: devicesOfPlan(plan, fleet) };
    terminal.out(
      `${JSON.stringify({ config: values.config, kv: kvFormat, context, activations, ...devices, ...plan, ...speeds }, null, 2)}\n`,
    );
  } else terminal.out(plan.fits ? describePlan(plan, fleet, context) : "");
  if (plan.fits) return EXIT.ok;
  throw new RunnerError(`Cannot fit the model: ${(plan satisfies NoPlan).why.join("; ")}`);
}

function describePlan(plan: Plan, { devices }: Fleet, context: number): string {
  const memoryOf = (name: string): number => devices.find((device) => device.name === name)?.memoryBytes ?? 0;
  const used = (name: string, bytes: number): string => `${formatBytes(bytes)} of ${formatBytes(memoryOf(name))}`;
  const rows = [["Device", "Layers", "Experts", "Memory", "A token", "A prompt token"]];
  for (const { device, begin, end, experts, memoryBytes, helpers, decodeSeconds, prefillSecondsPerToken } of plan.stages) {
    const times = [milliseconds(decodeSeconds), milliseconds(prefillSecondsPerToken)];
    rows.push([device, `${begin} to ${end - 1}`, String(experts), used(device, memoryBytes), ...times]);
    for (const helper of helpers)
      rows.push([helper.device, "", `${helper.experts} of the same`, used(helper.device, helper.memoryBytes), "", ""]);
  }
  const { decodeSeconds, prefillSecondsPerToken, requestSeconds, why, unused } = plan;
  return (
    formatTable(rows) +
    `\nPredicted, with a context of ${formatCount(context)} tokens:\n` +
    formatTable([
      ["  decode", `${rate(decodeSeconds)} tokens/s`],
      ["  prefill", `${rate(prefillSecondsPerToken)} tokens/s`],
      ["  request", `${requestSeconds.toFixed(2)} s`],
    ]) +
    (unused.length > 0 ? `\nNot used: ${unused.join(", ")}\n` : "") +
    `\nWhy:\n${why.map((reason) => `  ${reason}\n`).join("")}`
  );
}

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toPrecision(3)} ms`;
}

function rate(seconds: number): string {
  const perSecond = 1 / seconds;
  return perSecond < 1000 ? perSecond.toPrecision(3) : formatCount(Math.round(perSecond));
}
