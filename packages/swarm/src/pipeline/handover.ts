/**
 * A peer that leaves says so, and stays for a while. Where somebody else serves the same layers by then, it gets the KV rows that the leaving one has, instead of computing them again from
 * what that was given: first while the conversations go on, then, in a moment in which they stand still, what has come since.
 *
 * The rows go by way of the client, in pieces, and are checked to be rows. Whether they are the right ones nobody can see: a stage that began with rows of another peer's is held to what it
 * answers like any other, but it is not called a liar for it (`ActiveHop.inherited`). Where anything goes wrong nothing has changed, and when the peer is gone its layers are
 * computed again elsewhere.
 */
import { type KvSnapshot, type SequenceSlot, flawOfKv, kvRowBytes } from "@shoal/model";
import { type Clock, every } from "../clock.ts";
import { deferred } from "../deferred.ts";
import { SwarmError } from "../errors.ts";
import type { Hop } from "../plan/path.ts";
import type { CutMark, SequenceHistory } from "./history.ts";
import { type ActiveHop, type Fault, HopFault, type ModelShape } from "./hop.ts";
import { giveSampling } from "./rebuild.ts";
import type { Recovery } from "./recovery.ts";

/** Between looks whether somebody leaves. */
const LOOK_MS = 250;
/** Of rows, on their way at once: a step of the conversation waits for no more than that on the same link. */
const PIECE_BYTES = 2 ** 20;
/** So few rows are left that the conversations can wait for them. */
const FEW_ROWS = 32;
const MAX_ROUNDS = 8;
/** For which the conversations stand still at most. */
const STILL_MS = 2000;
/** Of all of it. */
const LIMIT_MS = 60_000;

export interface HandoverOptions {
  readonly shape: ModelShape;
  readonly clock: Clock;
  readonly recovery: Recovery;
  readonly sequences: ReadonlyMap<SequenceSlot, SequenceHistory>;
  readonly hops: () => readonly ActiveHop[];
  readonly isLeaving: (peer: string) => boolean;
  /** Who serves exactly these layers, without those. */
  readonly successor: (hop: Hop, without: ReadonlySet<string>) => Hop | undefined;
  readonly open: (hop: Hop) => Promise<ActiveHop>;
  /** Puts one in the place of the other, in one turn. */
  readonly swap: (from: ActiveHop, to: ActiveHop) => void;
  /** Somebody answered what cannot be. */
  readonly onFault?: ((peer: string, fault: Fault, error: Error) => void) | undefined;
}

export class Handovers {
  readonly #options: HandoverOptions;
  /** Of each that leaves: whom it did not come about with. */
  readonly #tried = new Map<ActiveHop, Set<string>>();
  readonly #running = new Set<ActiveHop>();
  readonly #stop: () => void;
  #closed = false;

  constructor(options: HandoverOptions) {
    this.#options = options;
    this.#stop = every(options.clock, LOOK_MS, () => this.#look());
  }

  close(): void {
    this.#closed = true;
    this.#stop();
  }

  #look(): void {
    const { hops, isLeaving, successor } = this.#options;
    for (const gone of this.#tried.keys()) if (!hops().includes(gone)) this.#tried.delete(gone);
    for (const from of hops()) {
      const { hop } = from;
      if (this.#running.has(from) || !isLeaving(hop.peer)) continue;
      const tried = this.#tried.get(from) ?? new Set([hop.peer]);
      const next = successor(hop, tried);
      if (!next) continue;
      this.#tried.set(from, tried.add(next.peer));
      this.#running.add(from);
      void this.#handOver(from, next).finally(() => this.#running.delete(from));
    }
  }

  async #handOver(from: ActiveHop, next: Hop): Promise<void> {
    const { shape, clock, recovery, sequences, hops, open, onFault } = this.#options;
    const end = clock.now() + LIMIT_MS;
    const check = (): void => {
      if (this.#closed || !hops().includes(from) || clock.now() >= end)
        throw new SwarmError("closed", `Cannot take over what '${from.hop.peer}' has: it is not used any more, or gives it too slowly`);
    };
    let to: ActiveHop | undefined;
    try {
      to = await open(next);
      const move = new KvMove(from, to, shape, check);
      try {
        for (let round = 0; round < MAX_ROUNDS && (await move.bring(sequences)) > FEW_ROWS; round++);
        await recovery.whileStill(() => this.#finish(move));
      } finally {
        move.end();
      }
    } catch (error) {
      to?.close();
      if (error instanceof HopFault && error.fault === "lied") onFault?.(error.peer, error.fault, error);
    }
  }

  async #finish(move: KvMove): Promise<void> {
    const { clock, sequences, swap } = this.#options;
    const late = deferred<never>();
    let isLate = false;
    const cancel = clock.after(STILL_MS, () => {
      isLate = true;
      late.reject(new SwarmError("link-lost", `Cannot take over what '${move.from.hop.peer}' has: it gives it too slowly`));
    });
    const work = async (): Promise<void> => {
      await move.bring(sequences);
      await move.open(sequences);
      if (!isLate) swap(move.from, move.to);
    };
    try {
      await Promise.race([work(), late.promise]);
    } finally {
      cancel();
    }
  }
}

interface Moved {
  readonly history: SequenceHistory;
  readonly mark: CutMark;
  /** On the new stage, with the first rows. */
  slot: SequenceSlot | undefined;
  rows: number;
}

/** Rows of one stage's sequences, on their way to another. */
class KvMove {
  readonly from: ActiveHop;
  readonly to: ActiveHop;
  readonly #shape: ModelShape;
  /** Throws where it is not to go on. */
  readonly #check: () => void;
  readonly #moved = new Map<SequenceSlot, Moved>();

  constructor(from: ActiveHop, to: ActiveHop, shape: ModelShape, check: () => void) {
    this.from = from;
    this.to = to;
    this.#shape = shape;
    this.#check = check;
  }

  /**
   * What has come since it was called last, up to this call: where tokens come faster than rows travel, whoever goes after those too never catches up.
   * @returns rows
   * @throws HopFault; ModelError where the two do not fit together
   */
  async bring(sequences: ReadonlyMap<SequenceSlot, SequenceHistory>): Promise<number> {
    let rows = 0;
    for (const [sequence, history] of sequences) {
      try {
        rows += await this.#bring(sequence, history);
      } catch (error) {
        // It may have been closed meanwhile.
        if (sequences.has(sequence)) throw error;
      }
    }
    return rows;
  }

  async #bring(sequence: SequenceSlot, history: SequenceHistory): Promise<number> {
    const { from, to } = this;
    const moved = this.#moved.get(sequence) ?? { history, mark: history.mark(), slot: undefined, rows: 0 };
    this.#moved.set(sequence, moved);
    // What was cut off may have grown again, and is something else now.
    const kept = Math.min(moved.rows, moved.mark.length);
    const isCut = kept < moved.rows;
    [moved.rows, moved.mark.length] = [kept, Number.POSITIVE_INFINITY];
    if (isCut && moved.slot !== undefined) await to.call(to.stage.truncate(moved.slot, kept));
    const until = history.length(from.begin);
    for (;;) {
      this.#check();
      const onFrom = from.slots.get(sequence);
      const rows = Math.min(this.#pieceRows, Math.min(until, history.length(from.begin)) - moved.rows);
      if (onFrom === undefined || rows <= 0) return moved.rows - kept;
      const given = await from.call(from.stage.exportKv(onFrom, { first: moved.rows, count: rows }));
      moved.slot = await to.call(to.stage.importKv(this.#checked(given, rows), moved.slot));
      moved.rows += rows;
    }
  }

  /** After the last rows: whatever is open on the one is open on the other, and nothing else. */
  async open(sequences: ReadonlyMap<SequenceSlot, SequenceHistory>): Promise<void> {
    const { from, to } = this;
    for (const [sequence, { slot }] of this.#moved) if (slot !== undefined && !sequences.has(sequence)) await to.call(to.stage.close(slot));
    for (const [sequence, history] of sequences) {
      const moved = this.#moved.get(sequence)?.slot;
      const slot: SequenceSlot = moved ?? (await to.call(to.stage.open()));
      await giveSampling(to, slot, history, this.#shape);
      to.slots.set(sequence, slot);
      if (moved !== undefined) to.inherited.set(sequence, from.hop.peer);
    }
  }

  end(): void {
    for (const { history, mark } of this.#moved.values()) history.unmark(mark);
  }

  get #pieceRows(): number {
    const bytes = kvRowBytes(this.#shape, "f32") * (this.from.end - this.from.begin + 1);
    return Math.max(1, Math.floor(PIECE_BYTES / bytes));
  }

  /** As the successor takes it: drafts decide about nothing, so an MTP module that one of the two lacks is no hindrance. */
  #checked(snapshot: KvSnapshot, tokens: number): KvSnapshot {
    const { from, to } = this;
    const own = from.end - from.begin;
    const flaw = flawOfKv(snapshot, { shape: this.#shape, tokens, layers: own + (from.description.hasMtp ? 1 : 0) });
    if (flaw !== undefined) throw new HopFault(from.hop.peer, "lied", `what it gave of its KV cache is none: ${flaw}`);
    const layers = snapshot.layers.slice(0, own);
    if (to.description.hasMtp) layers.push(snapshot.layers[own] ?? new Uint8Array(tokens * snapshot.rowBytes));
    return { ...snapshot, layers };
  }
}
