/**
 * Looks over the peers' shoulders. Now and then a step is computed again on a second peer that holds the same layers, from all that the first one was given, and compared. Where the
 * two differ a third one decides, and who is alone is called a liar. Peers do not learn that they are watched: what they get looks like anybody's conversation.
 *
 * A stage that took over KV rows of a peer that left may have been given wrong ones: it is replaced by one that computes everything again, and called nothing.
 *
 * It catches a peer that answers wrongly often, not one that does so once; and where fewer than three hold the same layers nobody can be convicted.
 */
import { type Clock, SYSTEM_CLOCK } from "../clock.ts";
import type { Hop } from "../plan/path.ts";
import { SequenceHistory } from "./history.ts";
import { ActiveHop, type ModelShape, type OpenedHop } from "./hop.ts";
import { STALL_MS } from "./activePath.ts";
import type { ObservedStep } from "./step.ts";

/** Of a row's largest value: devices of different kinds differ by 1e-4, hidden states sent as f16 by 1e-3. */
export const TOLERANCE = 0.01;
/** Of steps. Each costs the whole sequence so far, once more, on one peer. */
export const AUDIT_SHARE = 0.002;

export interface AuditorOptions extends ModelShape {
  /** Everybody else who holds exactly these layers, the least busy first. */
  readonly others: (hop: Hop) => readonly Hop[];
  readonly open: (hop: Hop) => Promise<OpenedHop>;
  readonly onLiar: (peer: string, reason: string) => void;
  readonly share?: number;
  readonly random?: () => number;
  readonly clock?: Clock;
}

/** What a step came to: hidden states, or of the last stage the token that was likeliest. */
interface Outcome {
  readonly hidden?: Float32Array;
  readonly token?: number;
  /** Of the last stage, when computed for an audit. */
  readonly logits?: Float32Array;
}

export interface AuditResult {
  readonly peer: string;
  readonly verdict: "agrees" | "lies" | "doubted" | "undecided" | "no second";
}

export class Auditor {
  readonly #options: AuditorOptions;
  #busy = false;

  constructor(options: AuditorOptions) {
    this.#options = options;
  }

  /** For SwarmStage's `onStep`: at most one audit at a time. */
  readonly observe = (step: ObservedStep): void => {
    const { share = AUDIT_SHARE, random = Math.random } = this.#options;
    if (this.#busy || random() >= share || (!step.hidden && step.token === undefined)) return;
    this.#busy = true;
    // The history goes on growing and may be cut.
    const kept = { ...step, inputs: [...step.inputs] };
    void this.audit(kept)
      .catch(() => undefined)
      .finally(() => (this.#busy = false));
  };

  async audit(step: ObservedStep): Promise<AuditResult> {
    const { peer } = step.hop;
    const others = this.#options.others(step.hop).filter((other) => other.peer !== peer);
    const [second, secondHop, rest] = await this.#first(others, step);
    if (!second || !secondHop) return { peer, verdict: "no second" };
    if (agree(step, second)) return { peer, verdict: "agrees" };
    const [third] = await this.#first(rest, step);
    const withFirst = third !== undefined && agree(step, third);
    const withSecond = third !== undefined && agree(second.logits ? { ...second, token: likeliest(second.logits) } : second, third);
    if (withFirst === withSecond) return { peer, verdict: "undecided" };
    const liar = withFirst ? secondHop.peer : peer;
    const { begin, end } = step.hop.layers;
    const reason = `two others computed something else for layers ${begin} to ${end - 1}`;
    if (!withFirst && step.doubt) {
      step.doubt(`${reason}, and it went on from what another peer had computed`);
      return { peer, verdict: "doubted" };
    }
    this.#options.onLiar(liar, reason);
    return { peer, verdict: withFirst ? "agrees" : "lies" };
  }

  /** Of the first of these that answers. */
  async #first(hops: readonly Hop[], step: ObservedStep): Promise<readonly [Outcome | undefined, Hop | undefined, readonly Hop[]]> {
    for (const [index, hop] of hops.entries()) {
      try {
        return [await this.#compute(hop, step), hop, hops.slice(index + 1)];
      } catch {
        // Gone, or no room there: it is not on trial.
      }
    }
    return [undefined, undefined, []];
  }

  async #compute(hop: Hop, { inputs }: ObservedStep): Promise<Outcome> {
    const { open, clock = SYSTEM_CLOCK, hiddenSize, nLayers } = this.#options;
    const active = await ActiveHop.open(hop, await open(hop), this.#options, { clock, stallMs: STALL_MS, replaceable: () => true });
    try {
      const sequence = await active.call(active.stage.open());
      const history = new SequenceHistory(hiddenSize);
      for (const input of inputs) history.add(0, input);
      const last = hop.layers.end === nLayers;
      let outcome: Outcome = {};
      let rest = history.length();
      for (const { tokens, hidden } of history.pieces(0, active.description.maxTokens)) {
        rest -= tokens.length;
        const entries = [{ sequence, tokens, ...(hidden && { hidden }) }];
        const output = rest > 0 ? "none" : last ? "lastLogits" : "hidden";
        const given = await active.forward({ entries, output }, tokens.length);
        outcome = { ...(given.hidden && { hidden: given.hidden.slice(-hiddenSize) }), ...(given.logits && { logits: given.logits }) };
      }
      await active.call(active.stage.close(sequence));
      return outcome;
    } finally {
      active.close();
    }
  }
}

function agree(said: Outcome, computed: Outcome): boolean {
  if (said.hidden && computed.hidden) return sameRow(said.hidden.subarray(-computed.hidden.length), computed.hidden);
  if (said.token !== undefined && computed.logits) return nearlyLikeliest(said.token, computed.logits);
  return false;
}

function sameRow(a: Float32Array, b: Float32Array): boolean {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.length === b.length && a.every((value, index) => Math.abs(value - (b[index] ?? 0)) <= TOLERANCE * largest);
}

/** Where two tokens are as good as equally likely, devices may differ about them. */
function nearlyLikeliest(token: number, logits: Float32Array): boolean {
  const largest = logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const spread = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (logits[token] ?? Number.NEGATIVE_INFINITY) >= largest - TOLERANCE * spread;
}

function likeliest(logits: Float32Array): number {
  return logits.reduce((best, value, index) => (value > (logits[best] ?? 0) ? index : best), 0);
}
