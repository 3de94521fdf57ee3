/**
 * Several shards as one. Each gets one message a layer, with the rows that name an expert of its and nothing else; what comes back is added in the order of the shards, so that the sum
 * does not depend on who was first.
 *
 * A shard keeps no state: when one is lost, its part of the call goes to replicas of its experts, and if an expert has none, to whoever takes the lost one's place.
 */
import { type ExpertCall, type ExpertShard, type ExpertShardDescription, NO_EXPERT, isLoss } from "@shoal/model";
import { ClusterError } from "../errors.ts";
import { type CallPart, addPart, partOf, subCall } from "./parts.ts";

export interface ShardMember {
  readonly name: string;
  readonly shard: ExpertShard;
}

export interface ShardedExpertsOptions {
  /** Gives a shard with the same experts in place of a lost one. Without it experts that have no replica are lost with their shard. */
  readonly replace?: (member: ShardMember, lost: unknown) => Promise<ExpertShard>;
}

/** Replacements in a row for one member, without an answer between them, after which calls fail. */
const MOST_REPLACEMENTS = 3;

interface Member {
  readonly name: string;
  shard: ExpertShard | undefined;
  readonly description: ExpertShardDescription;
  replacing: Promise<void> | undefined;
  replaced: number;
  /** Why it is gone. */
  lost?: unknown;
}

export class ShardedExperts implements ExpertShard {
  readonly #members: readonly Member[];
  readonly #options: ShardedExpertsOptions;
  /** Members that have an expert, by layer and expert. */
  readonly #owners: ReadonlyMap<number, ReadonlyMap<number, readonly number[]>>;

  private constructor(members: readonly Member[], options: ShardedExpertsOptions) {
    this.#members = members;
    this.#options = options;
    const owners = new Map<number, Map<number, number[]>>();
    for (const [index, { description }] of members.entries())
      for (const { layer, experts } of description.experts) {
        const ofLayer = owners.get(layer) ?? new Map<number, number[]>();
        owners.set(layer, ofLayer);
        for (const expert of experts) ofLayer.set(expert, [...(ofLayer.get(expert) ?? []), index]);
      }
    this.#owners = owners;
  }

  /** @param members in the order in which their sums are added */
  static async open(members: readonly ShardMember[], options: ShardedExpertsOptions = {}): Promise<ShardedExperts> {
    const described = await Promise.all(
      members.map(async ({ name, shard }) => ({ name, shard, description: await shard.describe(), replacing: undefined, replaced: 0 })),
    );
    if (new Set(described.map(({ description }) => description.hiddenSize)).size !== 1)
      throw new ClusterError("bad-plan", "Cannot join expert shards: they are of different models, or there are none");
    return new ShardedExperts(described, options);
  }

  async describe(): Promise<ExpertShardDescription> {
    const [first] = this.#members;
    const memory: Record<string, number> = {};
    for (const { description } of this.#members)
      for (const [kind, bytes] of Object.entries(description.memory)) memory[kind] = (memory[kind] ?? 0) + bytes;
    return {
      experts: [...this.#owners].map(([layer, owners]) => ({ layer, experts: [...owners.keys()].sort((a, b) => a - b) })),
      hiddenSize: first?.description.hiddenSize ?? 0,
      maxTokens: Math.min(...this.#members.map(({ description }) => description.maxTokens)),
      memory,
    };
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    const { tokens, slots, x } = call;
    const hidden = x.length / tokens;
    const pairs: number[] = [];
    for (const [pair, expert] of call.experts.entries()) if (expert !== NO_EXPERT) pairs.push(pair);
    const sums = new Float32Array(tokens * hidden);
    const answers = await this.#ask(call, pairs, slots, hidden);
    for (const { part, rows } of answers.sort((a, b) => a.member - b.member)) addPart(sums, part, rows, hidden);
    return sums;
  }

  /** Destroys the members. */
  async destroy(): Promise<void> {
    await Promise.allSettled(this.#members.flatMap(({ shard }) => shard?.destroy() ?? []));
  }

  /** Sends (row, slot) pairs to members that have their experts; what a lost one was asked is asked again of others. */
  async #ask(
    call: ExpertCall,
    pairs: readonly number[],
    slots: number,
    hidden: number,
  ): Promise<{ readonly member: number; readonly part: CallPart; readonly rows: Float32Array }[]> {
    const byMember = new Map<number, number[]>();
    for (const pair of pairs) {
      const member = await this.#memberFor(call.layer, call.experts[pair] ?? NO_EXPERT);
      byMember.set(member, [...(byMember.get(member) ?? []), pair]);
    }
    const asked = [...byMember].map(async ([member, own]) => {
      const part = partOf(call, own, slots);
      const asked = this.#members[member]?.shard;
      try {
        if (!asked) throw new ClusterError("bad-plan", "Cannot ask a shard that is gone");
        const rows = await asked.run(subCall(call, part, slots, hidden));
        const answered = this.#members[member];
        if (answered) answered.replaced = 0;
        return [{ member, part, rows }];
      } catch (error) {
        if (!isLoss(error)) throw error;
        this.#lose(member, asked, error);
        return this.#ask(call, own, slots, hidden);
      }
    });
    return (await Promise.all(asked)).flat();
  }

  /** A living owner, always the same one while the same ones live: replicas share the experts evenly. */
  async #memberFor(layer: number, expert: number): Promise<number> {
    const owners = this.#owners.get(layer)?.get(expert) ?? [];
    const alive = owners.filter((index) => this.#members[index]?.shard);
    const chosen = alive[expert % Math.max(1, alive.length)];
    if (chosen !== undefined) return chosen;
    const [first] = owners;
    const member = first === undefined ? undefined : this.#members[first];
    if (first === undefined || !member?.replacing)
      throw new ClusterError("bad-plan", `Cannot run expert ${expert} of layer ${layer}: no shard that has it is left`, {
        cause: member?.lost,
      });
    await member.replacing;
    return first;
  }

  #lose(index: number, lost: ExpertShard | undefined, error: unknown): void {
    const member = this.#members[index];
    // Another call has noticed already.
    if (!member || member.shard !== lost) return;
    member.shard = undefined;
    member.lost = error;
    const { replace } = this.#options;
    if (!replace || lost === undefined || member.replaced++ >= MOST_REPLACEMENTS) return;
    member.replacing = replace({ name: member.name, shard: lost }, error).then(
      (shard) => {
        member.shard = shard;
        member.replacing = undefined;
      },
      (failure: unknown) => {
        member.replacing = undefined;
        throw failure;
      },
    );
    member.replacing.catch(() => undefined);
  }
}
