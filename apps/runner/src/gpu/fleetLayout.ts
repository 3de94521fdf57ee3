/** Which devices a wish means, and what of a model each has: adapters by their names, or a plan's. Of several GPUs that are called alike each process is shown another one. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { LoadablePlan } from "@shoal/cluster";
import {
  type FleetMember,
  type Separation,
  type StageLayout,
  layoutOfPlan,
  layoutOfSplit,
  separate,
  thisMachine,
} from "@shoal/cluster/deno";
import { NoAdapterError, namesSoftware } from "@shoal/gpu";
import { type NamedAdapters, dawnAdapters } from "@shoal/gpu/deno";
import { AUTO_DEVICES, type FleetWish } from "./protocol.ts";

export interface FleetLayout {
  /** What of the wish could not be had. */
  readonly notes: readonly string[];
  readonly members: readonly FleetMember[];
  readonly layout: readonly StageLayout[];
}

/** What asks for the machine's adapters, and for a process for each that is called like another. */
export interface Adapters {
  readonly present: () => Promise<readonly NamedAdapters[]>;
  readonly separate: (alike: readonly NamedAdapters[]) => Promise<Separation>;
}

const OWN: Adapters = { present: dawnAdapters, separate: (alike) => separate(alike, thisMachine()) };

/** A device that is wanted, by part of an adapter's name: Dawn opens the first whose name has it. */
interface Wanted {
  readonly name: string;
  readonly adapter: string;
  readonly share: number;
  readonly env?: FleetMember["env"];
  /** Whether only to be had if it is another GPU than those before it. */
  readonly optional: boolean;
}

/** @throws NoAdapterError; ClusterError named bad-plan */
export async function fleetLayout(wish: FleetWish, config: ModelConfig, adapters: Adapters = OWN): Promise<FleetLayout> {
  return "plan" in wish ? ofPlan(wish.plan, config, adapters) : ofNames(wish, config, adapters);
}

/** Adapters are had by name through Dawn only. */
async function ofNames(
  { members, split }: Extract<FleetWish, { readonly split: unknown }>,
  config: ModelConfig,
  adapters: Adapters,
): Promise<FleetLayout> {
  const auto = members.some(({ name }) => name === AUTO_DEVICES);
  const present = auto || members.length > 1 ? await adapters.present() : [];
  const all = hardwareFirst(present).flatMap(({ name, count }) => Array.from({ length: count }, () => name));
  const wanted = members.flatMap(({ name, share }): readonly Omit<Wanted, "name">[] =>
    name === AUTO_DEVICES ? all.map((adapter) => ({ adapter, share, optional: true })) : [{ adapter: name, share, optional: false }],
  );
  if (wanted.length === 0) throw new NoAdapterError("dawn", "it names none for '--devices auto'; see 'shoal doctor'");
  const called = wanted.map((each, index) => ({ ...each, name: `${each.adapter} (${index})` }));
  const { had, notes } = await oneGpuEach(called, present, adapters);
  const shares = had.map(({ share }) => share);
  return { notes, members: had.map(({ member }) => member), layout: layoutOfSplit(split, shares, config) };
}

async function ofPlan(plan: LoadablePlan, config: ModelConfig, adapters: Adapters): Promise<FleetLayout> {
  const wanted = plan.devices.map(({ name, adapter = name, env }): Wanted => ({
    name,
    adapter,
    share: 1,
    optional: false,
    ...(env && { env }),
  }));
  const present = wanted.length > 1 ? await adapters.present() : [];
  const { had, notes } = await oneGpuEach(wanted, present, adapters);
  return { notes, members: had.map(({ member }) => member), layout: layoutOfPlan(plan, config) };
}

/** Those whose variables say which GPU their process is shown are left alone. */
async function oneGpuEach(
  wanted: readonly Wanted[],
  present: readonly NamedAdapters[],
  { separate: separated }: Adapters,
): Promise<{ readonly had: readonly { readonly member: FleetMember; readonly share: number }[]; readonly notes: readonly string[] }> {
  const adapterOf = ({ adapter, env }: Wanted): NamedAdapters | undefined =>
    env ? undefined : present.find(({ name }) => name.includes(adapter));
  const times = new Map<NamedAdapters | undefined, number>();
  for (const each of wanted) times.set(adapterOf(each), (times.get(adapterOf(each)) ?? 0) + 1);
  const alike = present.filter((adapter) => adapter.count > 1 && (times.get(adapter) ?? 0) > 1);
  const { launchers, problems } = alike.length > 0 ? await separated(alike) : { launchers: new Map(), problems: new Map() };
  const taken = new Map<NamedAdapters | undefined, number>();
  const had = wanted.flatMap((each) => {
    const { name, adapter: adapterName, share, env, optional } = each;
    const adapter = adapterOf(each);
    const place = taken.get(adapter) ?? 0;
    const own = adapter && launchers.get(adapter.name);
    if (adapter && !own && optional && place > 0) return [];
    taken.set(adapter, place + 1);
    const launcher = own?.[place % own.length];
    const member = { name, webgpu: "dawn" as const, adapterName, ...(env && { env }), ...(launcher && { launcher }) };
    return [{ member, share }];
  });
  return { had, notes: [...problems].map(([name, problem]) => alikeNote(name, problem)) };
}

/** Those on the CPU only where there are no others. */
function hardwareFirst(adapters: readonly NamedAdapters[]): readonly NamedAdapters[] {
  const hardware = adapters.filter(({ name }) => !namesSoftware(name));
  return hardware.length > 0 ? hardware : adapters;
}

function alikeNote(name: string, problem: string): string {
  return (
    `Several adapters are called '${name}', and only the first is used, because the processes cannot each be shown another: ${problem}. ` +
    "What helps: to run as root or where unshare --user works; a container for each GPU; a plan whose devices' env says which GPU each process is shown (see 'shoal plan --help')"
  );
}
