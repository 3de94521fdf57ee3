/** A plan as a file, to be loaded: what `place` gives, with what is needed to open its devices. From disk, so everything is checked. */
import { z } from "zod";
import { ClusterError } from "../errors.ts";
import { type Fleet, deviceAddress } from "./fleet.ts";
import type { Plan } from "./place.ts";

const count = z.int().min(0).max(65_536);
const name = z.string().min(1).max(100);
const share = { device: name, firstExpert: count, experts: count };

const loadablePlan = z.looseObject({
  devices: z
    .array(z.looseObject({ name, ...deviceAddress }))
    .min(1)
    .max(64),
  stages: z
    .array(z.looseObject({ ...share, begin: count, end: count, helpers: z.array(z.looseObject(share)).max(64) }))
    .min(1)
    .max(64),
  kv: z.enum(["f32", "f16", "fp8"]).optional(),
  context: z
    .int()
    .min(1)
    .max(2 ** 24)
    .optional(),
  activations: z.enum(["f32", "f16", "fp8"]).default("f32"),
  /** What it predicts of a token, to be told beside what it took. */
  decodeSeconds: z.number().positive().optional(),
});

export type LoadablePlan = z.infer<typeof loadablePlan>;

/** What a file of it has besides the plan itself: the devices that it uses. */
export function devicesOfPlan({ stages }: Plan, { devices }: Fleet): LoadablePlan["devices"] {
  const used = new Set(stages.flatMap(({ device, helpers }) => [device, ...helpers.map((helper) => helper.device)]));
  return devices
    .filter((device) => used.has(device.name))
    .map(({ name: called, adapter, env }) => ({ name: called, ...(adapter !== undefined && { adapter }), ...(env && { env }) }));
}

/** @throws ClusterError named bad-plan, with the field */
export function parsePlan(json: unknown): LoadablePlan {
  const refuse = (field: string, what: string): never => {
    throw new ClusterError("bad-plan", `Cannot use the plan: '${field}' ${what}`, { field });
  };
  const result = loadablePlan.safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    return refuse(issue?.path.map(String).join(".") ?? "", `is wrong: ${issue?.message.slice(0, 200) ?? ""}`);
  }
  const { devices, stages } = result.data;
  const names = new Set(devices.map((device) => device.name));
  if (names.size < devices.length) refuse("devices", "has a name twice, expected each once");
  let next = 0;
  const owners = new Set<string>();
  for (const [index, { device, begin, end, helpers }] of stages.entries()) {
    if (begin !== next || end <= begin) refuse(`stages.${index}`, `has layers ${begin} to ${end}, expected some from ${next} on`);
    next = end;
    const members = [device, ...helpers.map((helper) => helper.device)];
    const unknown = members.find((member) => !names.has(member));
    if (unknown !== undefined) refuse(`stages.${index}`, `names '${unknown}', expected one of the devices`);
    if (new Set(members).size < members.length) refuse(`stages.${index}`, "names a device twice, expected each once");
    if (owners.has(device)) refuse(`stages.${index}.device`, `is '${device}' again, expected a stage a device`);
    owners.add(device);
  }
  return result.data;
}
