/**
 * A layer's experts in fixed parts, each behind a shard that sees to its own losses. Unlike those of `ShardedExperts` the parts never change, so that sums do not depend on who computes
 * one, or on who was lost; what a part throws goes to whoever called.
 */
import { type ExpertCall, type ExpertShard, type ExpertShardDescription, ModelError, NO_EXPERT } from "@shoal/model";
import { addPart, partOf, subCall } from "./parts.ts";

export interface ExpertPart {
  /** Of every layer: from `begin` up to `end`. */
  readonly begin: number;
  readonly end: number;
  readonly shard: ExpertShard;
}

export class PartedExperts implements ExpertShard {
  readonly #parts: readonly ExpertPart[];

  /** @param parts in the order in which their sums are added */
  constructor(parts: readonly ExpertPart[]) {
    this.#parts = parts;
  }

  async describe(): Promise<ExpertShardDescription> {
    const described = await Promise.all(this.#parts.map(({ shard }) => shard.describe()));
    const experts = new Map<number, number[]>();
    const memory: Record<string, number> = {};
    for (const each of described) {
      for (const { layer, experts: own } of each.experts) experts.set(layer, [...(experts.get(layer) ?? []), ...own]);
      for (const [kind, bytes] of Object.entries(each.memory)) memory[kind] = (memory[kind] ?? 0) + bytes;
    }
    return {
      experts: [...experts].map(([layer, own]) => ({ layer, experts: own.sort((a, b) => a - b) })),
      hiddenSize: described[0]?.hiddenSize ?? 0,
      maxTokens: Math.min(...described.map(({ maxTokens }) => maxTokens)),
      memory,
    };
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    const { tokens, slots } = call;
    const hidden = call.x.length / tokens;
    const pairs = this.#parts.map((): number[] => []);
    for (const [pair, expert] of call.experts.entries()) {
      if (expert === NO_EXPERT) continue;
      const own = pairs[this.#parts.findIndex(({ begin, end }) => expert >= begin && expert < end)];
      if (!own) throw new ModelError("bad-batch", `Cannot run expert ${expert} of layer ${call.layer}: no part has it`);
      own.push(pair);
    }
    const asked = await Promise.all(
      this.#parts.map(async ({ shard }, index) => {
        const own = pairs[index] ?? [];
        if (own.length === 0) return undefined;
        const part = partOf(call, own, slots);
        return { part, rows: await shard.run(subCall(call, part, slots, hidden)) };
      }),
    );
    const sums = new Float32Array(tokens * hidden);
    for (const answer of asked) if (answer) addPart(sums, answer.part, answer.rows, hidden);
    return sums;
  }

  /** Destroys the parts. */
  async destroy(): Promise<void> {
    await Promise.allSettled(this.#parts.map(({ shard }) => shard.destroy()));
  }
}
