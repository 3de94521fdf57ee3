/** Peers that offer to hold experts for this peer's stage: measured, asked to hold what was planned, and kept at two for each piece where there are as many, so that losing one costs nothing. */
import { type ExpertPart, PartedExperts } from "@shoal/cluster";
import type { ExpertShard } from "@shoal/model";
import type { Clock } from "../clock.ts";
import type { Link } from "../link/link.ts";
import { type HelperOffer, LAN_RTT_MS, type Sharing } from "../plan/experts.ts";
import type { LayerRange } from "../plan/range.ts";
import { Helper } from "./helper.ts";
import { Piece } from "./piece.ts";

/** Links at once. */
const MAX_HELPERS = 16;
/** Of each piece. */
const WANTED_HOLDERS = 2;

export interface HelpersOptions {
  readonly clock: Clock;
  readonly hiddenSize: number;
  readonly slots: number;
  readonly nDenseLayers: number;
  /** Bytes of one expert of each MoE layer of these. */
  readonly expertBytes: (layers: LayerRange) => number;
  readonly onLie: (peer: string, reason: string) => void;
  /** Whether it says that it is about to go. */
  readonly isLeaving: (peer: string) => boolean;
  /** A piece was lost, or has a holder again. */
  readonly onChange: () => void;
}

export class Helpers {
  readonly #options: HelpersOptions;
  readonly #helpers = new Map<string, Helper>();
  #gap: LayerRange | undefined;
  #layers: LayerRange | undefined;
  #pieces: readonly Piece[] = [];

  constructor(options: HelpersOptions) {
    this.#options = options;
  }

  /** Layers for which help is wanted; undefined: none is. */
  want(gap: LayerRange | undefined): void {
    this.#gap = gap;
    if (!gap && this.#pieces.length === 0) this.close("no help is needed");
  }

  /** A link by which a peer offers its help. */
  accept(link: Link): void {
    const gap = this.#layers ?? this.#gap;
    if (!gap || this.#helpers.size >= MAX_HELPERS || this.#helpers.has(link.remote)) return link.close("no help is needed");
    const { clock, hiddenSize, slots, onLie } = this.#options;
    const helper = new Helper({ link, clock, hiddenSize, slots, onLie });
    this.#helpers.set(helper.peer, helper);
    void helper.lost.then(() => this.#helpers.delete(helper.peer));
    // What fails ends the link.
    helper.ask(gap).catch(() => undefined);
  }

  /** Of those that were measured. */
  offers(): readonly HelperOffer[] {
    return [...this.#helpers.values()].flatMap(({ offer }) => offer ?? []);
  }

  /** Lets those go who are too far away, and those who had better hold layers than help. */
  dismiss(sharing: Sharing | undefined): void {
    const chosen = new Set(sharing?.pieces.map(({ peer }) => peer));
    for (const { peer, rttMs, alone } of this.offers()) {
      const helper = this.#helpers.get(peer);
      if (!helper || helper.held || chosen.has(peer)) continue;
      if (rttMs > LAN_RTT_MS) helper.close(`it is ${rttMs.toFixed(1)} ms away, expected at most ${LAN_RTT_MS}`);
      else if (alone > 0) helper.close("it is quicker with layers of its own");
    }
  }

  /**
   * Has them load what was planned. Resolves when everything is held, with the shard of the experts that are not the stage's own.
   * @throws whatever keeps one of them from it
   */
  async hold({ layers, pieces }: Sharing, maxTokens: number): Promise<ExpertShard> {
    const { hiddenSize, nDenseLayers } = this.#options;
    this.#layers = layers;
    try {
      const held = pieces.map(({ peer, begin, end }) => {
        const piece = new Piece({ layers, begin, end, maxTokens }, { hiddenSize, nDenseLayers });
        return { peer, piece };
      });
      this.#pieces = held.map(({ piece }) => piece);
      await Promise.all(held.map(({ peer, piece }) => this.#give(piece, this.#helpers.get(peer))));
      return new PartedExperts(this.#pieces.map((piece): ExpertPart => ({ ...piece.experts, shard: piece })));
    } catch (error) {
      // Those who have loaded may be part of the next plan.
      this.#pieces = [];
      this.#layers = undefined;
      throw error;
    }
  }

  /** Has a helper that is free hold a piece that has too few holders, and lets those who leave go where others hold the same. To be called now and then. */
  tend(): void {
    const { expertBytes, isLeaving } = this.#options;
    const layers = this.#layers;
    for (const piece of this.#pieces)
      for (const holder of this.#staying(piece) > 0 ? piece.holders : [])
        if (isLeaving(holder.peer)) holder.close("others hold its experts");
    const [piece] = this.#pieces.filter((one) => this.#isShort(one)).sort((a, b) => this.#staying(a) - this.#staying(b));
    if (!piece || !layers) return;
    const bytes = (piece.experts.end - piece.experts.begin) * expertBytes(layers);
    for (const { peer, rttMs, memoryBytes } of this.offers()) {
      const helper = this.#helpers.get(peer);
      if (!helper || helper.held || rttMs > LAN_RTT_MS || memoryBytes < bytes) continue;
      this.#give(piece, helper).catch(() => undefined);
      return;
    }
    this.dismiss(undefined);
  }

  /** Whether some experts are held by nobody. */
  get isBroken(): boolean {
    return this.#pieces.some(({ holders }) => holders.length === 0);
  }

  /** Whether one more would be of use. */
  get isWanting(): boolean {
    return this.#pieces.length > 0 ? this.#pieces.some((piece) => this.#isShort(piece)) : this.#gap !== undefined;
  }

  /** Who holds what. */
  holders(): readonly { readonly peer: string; readonly begin: number; readonly end: number }[] {
    return this.#pieces.flatMap(({ holders, experts }) => holders.map(({ peer }) => ({ peer, ...experts })));
  }

  /** Lets all of them go, and forgets what was planned. */
  close(reason: string): void {
    this.#pieces = [];
    this.#layers = undefined;
    for (const helper of this.#helpers.values()) helper.close(reason);
  }

  #staying({ holders }: Piece): number {
    return holders.filter(({ peer }) => !this.#options.isLeaving(peer)).length;
  }

  #isShort(piece: Piece): boolean {
    return this.#staying(piece) < WANTED_HOLDERS;
  }

  async #give(piece: Piece, helper: Helper | undefined): Promise<void> {
    if (!helper) throw new Error("Cannot give experts to a helper that has gone");
    const tell = (): void => {
      if (this.#pieces.includes(piece)) this.#options.onChange();
    };
    await piece.give(helper, tell);
    tell();
  }
}
