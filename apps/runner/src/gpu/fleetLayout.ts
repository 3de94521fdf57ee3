/** Which devices a wish means, and what of a model each has: adapters by their names, or a plan's. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { LoadablePlan } from "@shoal/cluster";
import { type FleetMember, type StageLayout, layoutOfPlan, layoutOfSplit } from "@shoal/cluster/deno";
import { NoAdapterError, namesSoftware } from "@shoal/gpu";
import { type NamedAdapters, dawnAdapters } from "@shoal/gpu/deno";
import { AUTO_DEVICES, type FleetWish } from "./protocol.ts";

export interface FleetLayout {
  /** What of the wish could not be had. */
  readonly notes: readonly string[];
  readonly members: readonly FleetMember[];
  readonly layout: readonly StageLayout[];
}

/** @throws NoAdapterError; ClusterError named bad-plan */
export async function fleetLayout(wish: FleetWish, config: ModelConfig): Promise<FleetLayout> {
  return "plan" in wish ? ofPlan(wish.plan, config) : ofNames(wish, config);
}

/** Adapters are had by name through Dawn only. */
async function ofNames({ members, split }: Extract<FleetWish, { readonly split: unknown }>, config: ModelConfig): Promise<FleetLayout> {
  const present = members.some(({ name }) => name === AUTO_DEVICES) ? hardwareFirst(await dawnAdapters()) : [];
  const wanted = members.flatMap((member) => (member.name === AUTO_DEVICES ? present.map(({ name }) => ({ ...member, name })) : [member]));
  if (wanted.length === 0) throw new NoAdapterError("dawn", "it names none for '--devices auto'; see 'shoal doctor'");
  return {
    notes: present.flatMap(alike),
    members: wanted.map(({ name }, index) => ({ name: `${name} (${index})`, webgpu: "dawn", adapterName: name })),
    layout: layoutOfSplit(
      split,
      wanted.map(({ share }) => share),
      config,
    ),
  };
}

function ofPlan(plan: LoadablePlan, config: ModelConfig): FleetLayout {
  const members = plan.devices.map(({ name, adapter = name, env }) => ({
    name,
    webgpu: "dawn" as const,
    adapterName: adapter,
    ...(env && { env }),
  }));
  return { notes: [], members, layout: layoutOfPlan(plan, config) };
}

/** Those on the CPU only where there are no others. */
function hardwareFirst(adapters: readonly NamedAdapters[]): readonly NamedAdapters[] {
  const hardware = adapters.filter(({ name }) => !namesSoftware(name));
  return hardware.length > 0 ? hardware : adapters;
}

function alike({ name, count }: NamedAdapters): readonly string[] {
  if (count === 1) return [];
  return [
    `${count} adapters are called '${name}', and 'auto' takes the first: by their names they cannot be told apart. A plan can have them all, where its devices' env says which GPU each process is shown (see 'shoal plan --help')`,
  ];
}
