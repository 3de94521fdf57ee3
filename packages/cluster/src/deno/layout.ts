/**
 * Which member of a fleet has what: stages in their order, each on a member, and of its MoE layers the experts that each member has. From a wish (`--split`) or from a plan. Pure.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import type { LayerRange } from "@shoal/model";
import { ClusterError } from "../errors.ts";
import { shares } from "../placement/shares.ts";
import type { LoadablePlan } from "../placement/planFile.ts";

/** What shares a model: layers in a row; each layer's experts, all else on the first device; or both. */
export type Split = "layers" | "experts" | "both";

export interface StageLayout {
  /** By its number in the fleet. */
  readonly member: number;
  readonly layers: LayerRange;
  /** Of each MoE layer here; without them the member has all of them as part of its stage. The stage's own member, if it is among them, comes first. */
  readonly experts?: readonly ExpertLayout[];
}

export interface ExpertLayout {
  readonly member: number;
  /** Several members may have the same: replicas. */
  readonly experts: readonly number[];
}

/** @param parts of each member, in proportion @throws ClusterError named bad-plan for more members than layers or experts */
export function layoutOfSplit(split: Split, parts: readonly number[], config: ModelConfig): readonly StageLayout[] {
  const all = { begin: 0, end: config.nLayers };
  const experts = split === "layers" ? [] : ranges(shares(config.nRoutedExperts, parts)).map(listed);
  const around = (member: number): readonly ExpertLayout[] =>
    [member, ...parts.keys()].flatMap((each, place) =>
      place > 0 && each === member ? [] : { member: each, experts: experts[each] ?? [] },
    );
  if (split === "experts") return [{ member: 0, layers: all, experts: around(0) }];
  return ranges(shares(config.nLayers, parts)).map((layers, member) => ({
    member,
    layers,
    ...(split === "both" && { experts: around(member) }),
  }));
}

/** @throws ClusterError named bad-plan for a plan of another model */
export function layoutOfPlan({ stages, devices }: LoadablePlan, config: ModelConfig): readonly StageLayout[] {
  const bad = (message: string): ClusterError => new ClusterError("bad-plan", `Cannot use the plan: ${message}`);
  const end = stages.at(-1)?.end;
  if (end !== config.nLayers) throw bad(`it ends with layer ${end}, expected ${config.nLayers}, as many as the model has`);
  const numbers = new Map(devices.map(({ name }, index) => [name, index]));
  const member = (name: string): number => {
    const number = numbers.get(name);
    if (number === undefined) throw bad(`it names the device '${name}', expected one of its devices`);
    return number;
  };
  return stages.map(({ device, begin, end: last, firstExpert, experts, helpers }): StageLayout => {
    const layers = { begin, end: last };
    // Dense layers have no experts, and a stage that has all of its own needs nobody.
    if (last <= config.nDenseLayers || helpers.length === 0) return { member: member(device), layers };
    const given = [{ device, firstExpert, experts }, ...helpers].flatMap((each): readonly ExpertLayout[] => {
      if (each.experts > config.nRoutedExperts || each.firstExpert >= config.nRoutedExperts)
        throw bad(
          `'${each.device}' has ${each.experts} experts from ${each.firstExpert} on, expected numbers within ${config.nRoutedExperts}`,
        );
      return each.experts > 0 ? [{ member: member(each.device), experts: around(each, config.nRoutedExperts) }] : [];
    });
    const there = new Set(given.flatMap((each) => each.experts));
    if (there.size !== config.nRoutedExperts)
      throw bad(`stage '${device}' and its helpers have ${there.size} experts, expected ${config.nRoutedExperts}`);
    return { member: member(device), layers, experts: given };
  });
}

/** So many experts from the first on, around the end. */
function around({ firstExpert, experts }: { readonly firstExpert: number; readonly experts: number }, count: number): readonly number[] {
  return Array.from({ length: experts }, (_, place) => (firstExpert + place) % count);
}

function ranges(counts: readonly number[]): readonly LayerRange[] {
  let begin = 0;
  return counts.map((count) => ({ begin, end: (begin += count) }));
}

function listed({ begin, end }: LayerRange): readonly number[] {
  return Array.from({ length: end - begin }, (_, place) => begin + place);
}
