/**
 * Some experts of each MoE layer of a stage, held by helpers: one answers, and where it is lost the next is asked the same, whose sums are the same. Where nobody is left the step fails,
 * and whoever uses the stage goes elsewhere.
 */
import { PeerLostError } from "@shoal/cluster";
import type { ExpertCall, ExpertShard, ExpertShardDescription } from "@shoal/model";
import type { ExpertRange } from "../plan/experts.ts";
import type { Helper } from "./helper.ts";
import type { HeldExperts } from "./messages.ts";

export class Piece implements ExpertShard {
  readonly experts: ExpertRange;
  readonly #held: HeldExperts;
  readonly #about: { readonly hiddenSize: number; readonly nDenseLayers: number };
  /** Who answers first. */
  #holders: readonly Helper[] = [];

  constructor(held: HeldExperts, about: { readonly hiddenSize: number; readonly nDenseLayers: number }) {
    this.experts = { begin: held.begin, end: held.end };
    this.#held = held;
    this.#about = about;
  }

  get holders(): readonly Helper[] {
    return this.#holders;
  }

  /** Has a helper load it, and counts it among the holders from then on until it is lost. @throws whatever keeps it from it */
  async give(helper: Helper, onLost: () => void): Promise<void> {
    await helper.hold(this.#held);
    this.#holders = [...this.#holders, helper];
    void helper.lost.then(() => {
      this.#holders = this.#holders.filter((one) => one !== helper);
      onLost();
    });
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    let lost: unknown;
    for (const helper of this.#holders) {
      try {
        return await helper.run(call);
      } catch (error) {
        // What is wrong with the call is wrong with every call of this stage: nobody it is asked of would do better, but none can tell that from a peer that answers anything.
        lost = error;
      }
    }
    const { begin, end } = this.experts;
    throw new PeerLostError(`whoever had experts ${begin} to ${end - 1} of layer ${call.layer}`, "nobody has them any more", {
      cause: lost,
    });
  }

  async describe(): Promise<ExpertShardDescription> {
    const { layers, begin, end, maxTokens } = this.#held;
    const { hiddenSize, nDenseLayers } = this.#about;
    const experts = Array.from({ length: end - begin }, (_, place) => begin + place);
    const first = Math.max(layers.begin, nDenseLayers);
    return {
      experts: Array.from({ length: layers.end - first }, (_, place) => ({ layer: first + place, experts })),
      hiddenSize,
      maxTokens,
      memory: {},
    };
  }

  async destroy(): Promise<void> {
    for (const helper of this.#holders) helper.close("not needed any more");
  }
}
