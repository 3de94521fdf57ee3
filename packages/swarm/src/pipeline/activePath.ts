/**
 * The stages that a conversation goes through at the moment. One that fails is replaced, its layers alone if anybody has just those, else more around them, and what stood in its
 * place is given again what the old ones were given.
 */
import type { SequenceSlot } from "@shoal/model";
import { type Clock, SYSTEM_CLOCK, every, pause } from "../clock.ts";
import { ANNOUNCE_MS } from "../control/directory.ts";
import { SwarmError } from "../errors.ts";
import type { Hop } from "../plan/path.ts";
import type { LayerRange } from "../plan/range.ts";
import { Handovers } from "./handover.ts";
import type { SequenceHistory } from "./history.ts";
import { ActiveHop, type Fault, HopFault, type ModelShape, type OpenedHop } from "./hop.ts";
import { type PushPair, PushPairs } from "./pushPairs.ts";
import { rebuild } from "./rebuild.ts";
import { Recovery, type Walker } from "./recovery.ts";

/** A stage that does not answer for so long is replaced, where others have its layers. A chunk of a prompt on a slow device takes seconds. */
export const STALL_MS = 15_000;
/** How long a step waits for somebody who takes the place of a lost stage. */
export const PATIENCE_MS = 60_000;
const LOOK_AGAIN_MS = 250;
const PREPARE_MS = 1000;
/** For so long somebody else is looked for; then those who failed may be asked again: they may be what is left. */
const FORGIVE_MS = 5000;
/** Whoever has just come has not heard of everybody yet. */
const HEARD_ALL_MS = ANNOUNCE_MS + 500;

/** For which layers somebody is looked for, and who is out of the question. */
export interface Route {
  readonly layers: LayerRange;
  readonly without: ReadonlySet<string>;
}

export interface ActivePathOptions extends ModelShape {
  /** A chain of peers for these layers, without those. Undefined where there is none at the moment. */
  readonly plan: (question: Route) => readonly Hop[] | undefined;
  /** Of these layers, what no chain of peers but those leads through: for the message where there is none. */
  readonly missing: (question: Route) => readonly LayerRange[];
  /** There is no path at the moment: what is waited for, and how long at most. Once for each thing that is missing. */
  readonly onWait?: (what: string, patienceMs: number) => void;
  readonly open: (hop: Hop) => Promise<OpenedHop>;
  /** Who would have to take over from those of the path, now and then; nobody once it is closed. */
  readonly prepare?: (peers: ReadonlySet<string>) => void;
  /** Whether a peer has said that it leaves: somebody else takes over what it has, while it is there. Nobody does by default. */
  readonly isLeaving?: (peer: string) => boolean;
  /** That came about. */
  readonly onHandover?: (peer: string, successor: string) => void;
  /** Who was replaced, and why. */
  readonly onFault?: (peer: string, fault: Fault, error: Error) => void;
  readonly clock?: Clock;
  readonly stallMs?: number;
  readonly patienceMs?: number;
}

/** A stage that a step goes to without the client in between, and how it comes there. */
export interface Reached {
  readonly hop: ActiveHop;
  /** Absent for the first. */
  readonly by?: PushPair;
}

export class ActivePath {
  readonly #options: ActivePathOptions;
  readonly clock: Clock;
  readonly #sequences: ReadonlyMap<SequenceSlot, SequenceHistory>;
  readonly #closing = new AbortController();
  #hops: readonly ActiveHop[] = [];
  readonly pairs: PushPairs;
  readonly recovery: Recovery;
  readonly #handovers: Handovers | undefined;
  #replaced = 0;
  #handedOver = 0;
  readonly #stopPreparing: () => void;

  private constructor(options: ActivePathOptions, sequences: ReadonlyMap<SequenceSlot, SequenceHistory>) {
    this.#options = options;
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.#sequences = sequences;
    this.pairs = new PushPairs(this.clock);
    this.recovery = new Recovery({
      isUsed: (hop) => this.#hops.includes(hop),
      replace: (hop, fault, before) => this.#replace(hop, fault, before),
    });
    const { isLeaving } = options;
    this.#handovers = isLeaving && this.#handingOver(isLeaving);
    this.#stopPreparing = options.prepare ? every(this.clock, PREPARE_MS, () => this.#prepare()) : () => {};
  }

  /**
   * @param sequences all that are open, now and later, with what their stages were given
   * @throws SwarmError incomplete where no path comes about within the patience
   */
  static async open(options: ActivePathOptions, sequences: ReadonlyMap<SequenceSlot, SequenceHistory>): Promise<ActivePath> {
    const path = new ActivePath(options, sequences);
    try {
      path.#setHops(await path.#openPath({ begin: 0, end: options.nLayers }, new Set()));
      return path;
    } catch (error) {
      path.close();
      throw error;
    }
  }

  get hops(): readonly ActiveHop[] {
    return this.#hops;
  }

  /** Stages that were opened elsewhere since the beginning. */
  get replaced(): number {
    return this.#replaced;
  }

  /** Stages that gave what they had to their successors. */
  get handedOver(): number {
    return this.#handedOver;
  }

  get last(): ActiveHop {
    const last = this.#hops.at(-1);
    if (!last) throw new SwarmError("closed", "Cannot compute: there is no path");
    return last;
  }

  /** @throws SwarmError where no stage begins there */
  at(layer: number): ActiveHop {
    const hop = this.#hops.find(({ begin }) => begin === layer);
    if (!hop) throw new SwarmError("incomplete", `Cannot compute: nobody has the layers from ${layer} on`);
    return hop;
  }

  /** The stage that begins there, and those that its output comes to by pushing. @throws SwarmError where no stage begins there */
  reach(layer: number): readonly [Reached, ...Reached[]] {
    const all: [Reached, ...Reached[]] = [{ hop: this.at(layer) }];
    for (let hop = all[0].hop; hop.end < this.#options.nLayers;) {
      const next = this.at(hop.end);
      const by = this.pairs.between(hop, next);
      if (!by) break;
      all.push({ hop: next, by });
      hop = next;
    }
    return all;
  }

  /** @throws what it was closed with, once it was */
  check(): void {
    this.#closing.signal.throwIfAborted();
  }

  close(): void {
    this.#closing.abort(new SwarmError("closed", "The stage was closed"));
    this.#stopPreparing();
    this.#handovers?.close();
    this.#options.prepare?.(new Set());
    this.pairs.close();
    for (const hop of this.#hops) hop.close();
  }

  #setHops(hops: readonly ActiveHop[]): void {
    this.#hops = hops;
    this.pairs.update(hops);
  }

  #handingOver(isLeaving: (peer: string) => boolean): Handovers {
    const { plan, onFault, onHandover } = this.#options;
    return new Handovers({
      shape: this.#options,
      clock: this.clock,
      recovery: this.recovery,
      sequences: this.#sequences,
      hops: () => this.#hops,
      isLeaving,
      successor: ({ layers }, without) => {
        const [next, ...more] = plan({ layers, without }) ?? [];
        // What comes out between several is known to nobody.
        return more.length === 0 ? next : undefined;
      },
      open: (hop) => this.#openHop(hop),
      swap: (from, to) => {
        this.#setHops(this.#hops.map((hop) => (hop === from ? to : hop)));
        from.close();
        this.#handedOver++;
        onHandover?.(from.hop.peer, to.hop.peer);
      },
      onFault,
    });
  }

  #prepare(): void {
    const { plan, prepare } = this.#options;
    const used = new Set(this.#hops.map(({ hop }) => hop.peer));
    const others = this.#hops.flatMap(({ hop: { peer, layers } }) => plan({ layers, without: new Set([peer]) }) ?? []);
    prepare?.(new Set(others.map(({ peer }) => peer).filter((peer) => !used.has(peer))));
  }

  /** The same for all stages, one after the other; one that fails is replaced, and its successor asked. What was done stays done: it may be asked again. */
  everywhere(work: (hop: ActiveHop) => Promise<void>): Promise<void> {
    return this.#walk(0, work);
  }

  /** As `everywhere`, for the last stage. */
  onLast(work: (hop: ActiveHop) => Promise<void>): Promise<void> {
    return this.#walk(this.last.begin, work);
  }

  #walk(from: number, work: (hop: ActiveHop) => Promise<void>): Promise<void> {
    let at = from;
    const walker: Walker = { takeBack: ({ begin, end }) => void (at = at >= begin && at < end ? begin : at) };
    return this.recovery.walk(async () => {
      while (at < this.#options.nLayers) {
        // While it waited for its turn, the last stage may have been replaced by one of more layers.
        const hop = this.#hops.find(({ begin }) => begin === at) ?? this.last;
        try {
          await work(hop);
          at = hop.end;
        } catch (error) {
          if (!(error instanceof HopFault)) throw error;
          await this.recovery.replaced(walker, hop, error);
        }
      }
    });
  }

  /**
   * Other peers in place of one: for its layers alone if anybody has just those, else for more around them.
   * @param before told what is replaced, before anything is computed again
   */
  async #replace(hop: ActiveHop, fault: HopFault, before: (range: LayerRange) => void): Promise<void> {
    const without = new Set<string>();
    let current: { readonly hop: ActiveHop; readonly fault: HopFault } = { hop, fault };
    for (;;) {
      // What was under way when it was closed has failed for that reason.
      this.check();
      without.add(current.fault.peer);
      this.#options.onFault?.(current.fault.peer, current.fault.fault, current.fault);
      current.hop.close();
      const { range, hops } = await this.#openInstead(current.hop, without);
      try {
        before(range);
        await rebuild(hops, this.#sequences, this.#options);
        const gone = this.#hops.filter(({ begin }) => begin >= range.begin && begin < range.end);
        for (const one of gone) {
          one.close();
          if (!hops.some(({ begin }) => begin === one.begin)) for (const history of this.#sequences.values()) history.drop(one.begin);
        }
        this.#setHops([...this.#hops.filter((one) => !gone.includes(one)), ...hops].sort((a, b) => a.begin - b.begin));
        this.#replaced += hops.length;
        return;
      } catch (error) {
        for (const one of hops) one.close();
        if (!(error instanceof HopFault)) throw error;
        current = { hop: current.hop, fault: error };
      }
    }
  }

  async #openInstead(hop: ActiveHop, without: Set<string>): Promise<{ readonly range: LayerRange; readonly hops: readonly ActiveHop[] }> {
    const { nLayers, plan, patienceMs = PATIENCE_MS } = this.#options;
    const end = this.clock.now() + patienceMs;
    const wait = this.#waiting(hop.hop.layers, patienceMs);
    for (;;) {
      for (const layers of this.#widening(hop)) {
        if (!plan({ layers, without })) continue;
        try {
          return { range: layers, hops: await this.#openPath(layers, without, 0) };
        } catch (error) {
          if (!(error instanceof SwarmError)) throw error;
        }
      }
      if (this.clock.now() >= end)
        throw new SwarmError(
          "incomplete",
          `Cannot go on: nobody has taken the place of '${hop.hop.peer}', layers ${hop.begin} to ${hop.end - 1} of ${nLayers}`,
          { field: "layers", actual: hop.hop.layers, expected: "a peer that holds them" },
        );
      wait(without);
      await pause(this.clock, LOOK_AGAIN_MS, this.#closing.signal);
      if (this.clock.now() >= end - patienceMs + Math.min(FORGIVE_MS, patienceMs / 2)) without.clear();
    }
  }

  /** The hop's own layers, then with its neighbours', up to the whole model. */
  #widening(hop: ActiveHop): readonly LayerRange[] {
    const begins = [...new Set(this.#hops.map(({ begin }) => begin))].filter((begin) => begin <= hop.begin).sort((a, b) => b - a);
    const ends = [...new Set(this.#hops.map((one) => one.end))].filter((end) => end >= hop.end).sort((a, b) => a - b);
    return begins.flatMap((begin) => ends.map((end) => ({ begin, end }))).sort((a, b) => a.end - a.begin - (b.end - b.begin));
  }

  /** Opens a chain; whoever does not answer is left out and another looked for. */
  async #openPath(layers: LayerRange, without: Set<string>, patienceMs = this.#options.patienceMs ?? PATIENCE_MS): Promise<ActiveHop[]> {
    const { plan, onFault } = this.#options;
    const began = this.clock.now();
    const until = began + patienceMs;
    const wait = this.#waiting(layers, patienceMs);
    let failedAt = began;
    for (;;) {
      this.#closing.signal.throwIfAborted();
      const hops = plan({ layers, without });
      if (!hops) {
        if (this.clock.now() >= until)
          throw new SwarmError("incomplete", `Cannot compute: ${this.#lack(layers, without)}`, {
            field: "layers",
            actual: this.#options.missing({ layers, without }),
            expected: `a chain of peers for layers ${layers.begin} to ${layers.end - 1}`,
          });
        if (this.clock.now() - began >= HEARD_ALL_MS) wait(without);
        await pause(this.clock, LOOK_AGAIN_MS, this.#closing.signal);
        if (this.clock.now() - failedAt >= FORGIVE_MS) without.clear();
        continue;
      }
      const results = await Promise.allSettled(hops.map((hop) => this.#openHop(hop)));
      const opened = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      if (opened.length === hops.length) return opened;
      for (const hop of opened) hop.close();
      failedAt = this.clock.now();
      for (const [index, result] of results.entries()) {
        const peer = hops[index]?.peer;
        if (result.status !== "rejected" || peer === undefined) continue;
        without.add(peer);
        const error = result.reason instanceof Error ? result.reason : new SwarmError("link-lost", String(result.reason));
        onFault?.(peer, error instanceof HopFault ? error.fault : "lost", error);
      }
    }
  }

  async #openHop(hop: Hop): Promise<ActiveHop> {
    const { plan, open, stallMs = STALL_MS } = this.#options;
    const replaceable = (): boolean => plan({ layers: hop.layers, without: new Set([hop.peer]) }) !== undefined;
    return ActiveHop.open(hop, await open(hop), this.#options, { clock: this.clock, stallMs, replaceable });
  }

  /** Tells of what is waited for, once, and again where it changes. */
  #waiting(layers: LayerRange, patienceMs: number): (without: ReadonlySet<string>) => void {
    let told = "";
    return (without) => {
      const what = this.#lack(layers, without);
      if (what === told) return;
      told = what;
      this.#options.onWait?.(what, patienceMs);
    };
  }

  #lack(layers: LayerRange, without: ReadonlySet<string>): string {
    const missing = this.#options
      .missing({ layers, without })
      .map(({ begin, end }) => (end - begin === 1 ? `${begin}` : `${begin} to ${end - 1}`));
    if (missing.length === 0) return `no chain of peers leads through layers ${layers.begin} to ${layers.end - 1}`;
    const silent = without.size > 0 ? `; ${without.size} did not answer, or answered wrongly` : "";
    return `no peer holds layers ${missing.join(", ")} of ${this.#options.nLayers}${silent}`;
  }
}
