/**
 * `place(model, devices, links) -> plan`: which layers and which experts go where, so that a request takes the least time. Pure and deterministic.
 *
 * A plan is an order of stages, each with helpers that have some of its experts. For a given order the best cuts between the stages are found exactly, by dynamic programming over the
 * layers. The order itself is improved step by step, from several beginnings: a device joins as a stage or as somebody's helper, leaves, or changes places with another.
 */
import { CostModel, DEFAULT_WORKLOAD, type PlanCost, type StageChoice, type StageCost, type Workload, planCost } from "./cost.ts";
import { type Device, type Fleet, Links } from "./fleet.ts";
import type { ModelCosts } from "./modelCosts.ts";

export interface PlannedStage {
  readonly device: string;
  /** Layers `begin .. end`. */
  readonly begin: number;
  readonly end: number;
  /** Of each MoE layer here so many, from the first on, around the end. */
  readonly firstExpert: number;
  readonly experts: number;
  readonly memoryBytes: number;
  readonly helpers: readonly {
    readonly device: string;
    readonly firstExpert: number;
    readonly experts: number;
    readonly memoryBytes: number;
  }[];
  readonly decodeSeconds: number;
  readonly prefillSecondsPerToken: number;
}

export interface Plan extends PlanCost {
  readonly fits: true;
  readonly stages: readonly PlannedStage[];
  readonly unused: readonly string[];
  readonly why: readonly string[];
}

export interface NoPlan {
  readonly fits: false;
  /** What all devices together lack; 0 where there is enough, but not in pieces that fit. */
  readonly missingBytes: number;
  readonly why: readonly string[];
}

/** Stages in their order, each with its helpers, by number of the device. */
type Order = readonly { readonly device: number; readonly helpers: readonly number[] }[];

interface Reached {
  readonly cost: number;
  readonly before?: Reached;
  readonly stage?: StageChoice;
}

interface Candidate {
  readonly order: Order;
  readonly stages: readonly StageChoice[];
  readonly cost: PlanCost;
}

export function place(model: ModelCosts, fleet: Fleet, workload: Partial<Workload> = {}): Plan | NoPlan {
  const work = { ...DEFAULT_WORKLOAD, ...workload };
  const { devices } = fleet;
  const alike = likeness(fleet);
  const kinds = new Map(devices.map((device, index) => [device, alike[index] ?? index]));
  const costs = new CostModel(model, new Links(fleet), work, (device) => kinds.get(device) ?? device.name);
  const tried = new Map<string, Candidate | undefined>();
  /** Orders of devices that are alike cost the same. */
  const evaluate = (order: Order): Candidate | undefined => {
    const key = order
      .map(({ device, helpers }) => [alike[device], ...helpers.map((helper) => alike[helper] ?? 0).sort((a, b) => a - b)].join(" "))
      .join(",");
    if (!tried.has(key)) tried.set(key, cut(costs, devices, order));
    return tried.get(key);
  };
  let best: Candidate | undefined;
  for (const start of beginnings(devices)) {
    const found = climb(devices.length, start, evaluate);
    if (found && (!best || found.cost.requestSeconds < best.cost.requestSeconds)) best = found;
  }
  return best ? planOf(costs, devices, best) : refusal(costs, devices);
}

/** Every device alone; chains of all of them, the fastest and the largest first; and one with all others as helpers. */
function beginnings(devices: readonly Device[]): readonly Order[] {
  const by = (key: (device: Device) => number): Order =>
    [...devices.entries()].sort(([, a], [, b]) => key(b) - key(a)).map(([device]) => ({ device, helpers: [] }));
  const [fastest, largest] = [by(({ bytesPerSecond }) => bytesPerSecond), by(({ memoryBytes }) => memoryBytes)];
  const around = (order: Order): Order => [{ device: order[0]?.device ?? 0, helpers: order.slice(1).map(({ device }) => device) }];
  return [...devices.map((_, device) => [{ device, helpers: [] }]), fastest, largest, around(fastest), around(largest)];
}

/** Improves an order until no single change does. */
function climb(devices: number, start: Order, evaluate: (order: Order) => Candidate | undefined): Candidate | undefined {
  let best = evaluate(start);
  for (;;) {
    let better = best;
    for (const order of neighbours(devices, best?.order ?? start)) {
      const candidate = evaluate(order);
      const least = better?.cost.requestSeconds ?? Number.POSITIVE_INFINITY;
      // Changes that only rounding makes better would go on for ever.
      if (candidate && candidate.cost.requestSeconds < least * (1 - 1e-9)) better = candidate;
    }
    if (better === best) return best;
    best = better;
  }
}

/** For each device the first that is like it, where links make no difference. */
function likeness({ devices, links }: Fleet): readonly number[] {
  const described = devices.map(({ name, ...rest }) => JSON.stringify(links.length > 0 ? name : Object.values(rest)));
  return described.map((description) => described.indexOf(description));
}

/** Orders that differ by one device's place. */
function* neighbours(devices: number, order: Order): Generator<Order> {
  const used = new Set(order.flatMap(({ device, helpers }) => [device, ...helpers]));
  const replaced = (index: number, stage: Order[number]): Order => order.map((old, i) => (i === index ? stage : old));
  for (let device = 0; device < devices; device++) {
    const others = without(order, device);
    if (others.length > 0 && used.has(device)) yield others;
    // A stage's helpers stay with whoever takes its place in the line.
    for (let at = 0; at <= others.length; at++) yield [...others.slice(0, at), { device, helpers: [] }, ...others.slice(at)];
    for (const index of others.keys())
      yield others.map((stage, i) => (i === index ? { ...stage, helpers: [...stage.helpers, device] } : stage));
    if (!used.has(device)) for (const [index, stage] of order.entries()) yield replaced(index, { ...stage, device });
  }
  for (let a = 0; a < order.length; a++) {
    const first = order[a];
    if (!first) continue;
    for (const [index, helper] of first.helpers.entries())
      yield replaced(a, { device: helper, helpers: first.helpers.map((other, i) => (i === index ? first.device : other)) });
    for (let b = a + 1; b < order.length; b++) {
      const second = order[b];
      if (second)
        yield order.map((stage, i) =>
          i === a ? { ...stage, device: second.device } : i === b ? { ...stage, device: first.device } : stage,
        );
    }
  }
}

function without(order: Order, device: number): Order {
  return order
    .filter((stage) => stage.device !== device)
    .map((stage) => ({ ...stage, helpers: stage.helpers.filter((helper) => helper !== device) }));
}

/** The best layers for each stage of an order: the least sum of what they cost a request, then what that comes to. */
function cut(costs: CostModel, devices: readonly Device[], order: Order): Candidate | undefined {
  const layers = costs.model.layers.length;
  const { newTokens, promptTokens } = costs.work;
  const named = order.map(({ device, helpers }) => ({
    device: devices[device],
    helpers: helpers.flatMap((helper) => devices[helper] ?? []),
  }));
  /** By layers done: the least cost so far, and how it was reached. */
  let reached = new Map<number, Reached>([[0, { cost: 0 }]]);
  for (const [index, { device, helpers }] of named.entries()) {
    if (!device) return undefined;
    const costOf = costs.stageOf(device, helpers);
    const next: typeof reached = new Map();
    const left = named.length - 1 - index;
    for (const [begin, before] of reached)
      for (let end = left === 0 ? layers : begin + 1; end <= layers - left; end++) {
        const own = costOf(begin, end);
        // More layers fit no better.
        if (!own) break;
        // Stages share a prompt's work, each with its part of the time.
        const cost = before.cost + own.decodeSeconds * newTokens + (own.prefillSecondsPerToken * promptTokens) / named.length;
        if (cost < (next.get(end)?.cost ?? Number.POSITIVE_INFINITY))
          next.set(end, { cost, before, stage: { device, helpers, begin, end } });
      }
    reached = next;
  }
  const stages: StageChoice[] = [];
  for (let at = reached.get(layers); at?.stage; at = at.before) stages.unshift(at.stage);
  const cost = stages.length > 0 ? planCost(costs, stages) : undefined;
  return cost && { order, stages, cost };
}

function planOf(costs: CostModel, devices: readonly Device[], { stages, cost }: Candidate): Plan {
  const planned = stages.flatMap((stage): PlannedStage[] => {
    const own = costs.stage(stage);
    return own ? [plannedStage(stage, own, costs.model.nRoutedExperts)] : [];
  });
  const used = new Set(planned.flatMap(({ device, helpers }) => [device, ...helpers.map((helper) => helper.device)]));
  const unused = devices.map(({ name }) => name).filter((name) => !used.has(name));
  return { fits: true, ...cost, stages: planned, unused, why: reasons(costs, devices, stages, cost, unused) };
}

function plannedStage({ device, helpers, begin, end }: StageChoice, cost: StageCost, nRoutedExperts: number): PlannedStage {
  const firsts = cost.experts.map((_, index) => cost.experts.slice(0, index).reduce((sum, count) => sum + count, 0) % nRoutedExperts);
  return {
    device: device.name,
    begin,
    end,
    firstExpert: 0,
    experts: cost.experts[0] ?? 0,
    memoryBytes: cost.memoryBytes,
    helpers: helpers.map(({ name }, index) => ({
      device: name,
      firstExpert: firsts[index + 1] ?? 0,
      experts: cost.experts[index + 1] ?? 0,
      memoryBytes: cost.helperBytes[index] ?? 0,
    })),
    decodeSeconds: cost.decodeSeconds,
    prefillSecondsPerToken: cost.prefillSecondsPerToken,
  };
}

/** What decided. */
function reasons(
  costs: CostModel,
  devices: readonly Device[],
  stages: readonly StageChoice[],
  cost: PlanCost,
  unused: readonly string[],
): readonly string[] {
  const why: string[] = [];
  const computing = stages.reduce((sum, stage) => sum + (costs.stage(stage)?.decodeSeconds ?? 0), 0);
  const waiting = cost.decodeSeconds - computing;
  if (stages.length > 1)
    why.push(`of a token's ${ms(cost.decodeSeconds)}, ${ms(computing)} are the stages' and ${ms(waiting)} go to hops between them`);
  const alone = devices.flatMap((device) => {
    const single = planCost(costs, [{ device, helpers: [], begin: 0, end: costs.model.layers.length }]);
    return single ? [{ device, single }] : [];
  });
  const fastest = alone.sort((a, b) => a.single.requestSeconds - b.single.requestSeconds)[0];
  if (!fastest) why.push(`no device holds the model alone: it takes ${gigabytes(totalBytes(costs))}`);
  else if (stages.length > 1 || (stages[0]?.helpers.length ?? 0) > 0)
    why.push(`${fastest.device.name} alone would take ${(fastest.single.requestSeconds / cost.requestSeconds).toFixed(2)} times as long`);
  for (const stage of stages)
    if (stage.helpers.length > 0) {
      const without = costs.stage({ ...stage, helpers: [] });
      const shared = costs.stage(stage)?.decodeSeconds ?? 0;
      why.push(
        without
          ? `${stage.device.name} gives experts to ${stage.helpers.map(({ name }) => name).join(", ")}: ${ms(shared)} a token instead of ${ms(without.decodeSeconds)}`
          : `${stage.device.name} gives experts to ${stage.helpers.map(({ name }) => name).join(", ")}, for want of memory`,
      );
    }
  if (unused.length > 0) why.push(`${unused.join(", ")} would make a request slower than it is without`);
  return why;
}

function refusal(costs: CostModel, devices: readonly Device[]): NoPlan {
  const needed = totalBytes(costs);
  const there = devices.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
  const missingBytes = Math.max(0, needed - there);
  const why = [`the model takes ${gigabytes(needed)} with its KV cache, the devices have ${gigabytes(there)} together`];
  if (missingBytes > 0) why.push(`${gigabytes(missingBytes)} are missing`);
  else {
    const layer = Math.max(...costs.model.layers.map(({ bytes }) => bytes)) + costs.model.kvBytes * costs.work.kvTokens;
    const largest = Math.max(...devices.map(({ memoryBytes }) => memoryBytes));
    if (layer > largest) why.push(`a layer without its experts takes ${gigabytes(layer)}, the largest device has ${gigabytes(largest)}`);
    else why.push("there is enough memory, but not in pieces that layers and experts fit, or not linked with each other");
  }
  return { fits: false, missingBytes, why };
}

/** Of the whole model with its KV cache. */
function totalBytes({ model, work }: CostModel): number {
  const layers = model.layers.reduce((sum, { bytes, expertBytes }) => sum + bytes + model.nRoutedExperts * expertBytes, 0);
  return layers + model.embeddingBytes + model.headBytes + model.mtpBytes + model.layers.length * model.kvBytes * work.kvTokens;
}

function ms(seconds: number): string {
  return `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 1)} ms`;
}

function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
