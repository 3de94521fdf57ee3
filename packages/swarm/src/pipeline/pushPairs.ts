/**
 * Which stages of a path push to the one after them. Two that follow one another are made a pair beside whatever goes on: until their link is there, and where none comes about, the client
 * carries what goes from one to the other. So it does for two that once disagreed about what had gone between them: one of them lies, and by way of the client it is seen which.
 */
import type { Clock } from "../clock.ts";
import type { ActiveHop } from "./hop.ts";

/** After a link could not be made, or what went over it came late. */
const RETRY_MS = 10_000;

export interface PushPair {
  readonly from: ActiveHop;
  readonly to: ActiveHop;
  /** The number of the next input that goes this way. */
  next(): number;
}

interface Making {
  readonly pair: PushPair;
  state: "waits" | "ready" | "off";
  cancelRetry: () => void;
}

export class PushPairs {
  readonly #clock: Clock;
  /** By the first of the two. */
  readonly #pairs = new Map<ActiveHop, Making>();
  readonly #distrusted = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The path is this one from now on. */
  update(hops: readonly ActiveHop[]): void {
    const wanted = new Map(hops.slice(1).flatMap((to, index) => (hops[index] ? [[hops[index], to] as const] : [])));
    for (const [from, { pair }] of this.#pairs) if (wanted.get(from) !== pair.to) this.#drop(from);
    for (const [from, to] of wanted) if (!this.#pairs.has(from) && from.pushing && to.pushing) this.#add(from, to);
  }

  /** Undefined where the client carries what goes from one to the other. */
  between(from: ActiveHop, to: ActiveHop): PushPair | undefined {
    const making = this.#pairs.get(from);
    return making?.state === "ready" && making.pair.to === to ? making.pair : undefined;
  }

  /** What one of them said of what went between them is not what the other said: never again. */
  distrust({ from, to }: PushPair): void {
    this.#distrusted.add(nameOf(from, to));
    this.#drop(from);
  }

  /** Something did not come in time: the client carries it for a while. */
  rest({ from, to }: PushPair): void {
    if (this.#pairs.get(from)?.pair.to !== to) return;
    this.#drop(from);
    this.#add(from, to, RETRY_MS);
  }

  close(): void {
    for (const from of this.#pairs.keys()) this.#drop(from);
  }

  #add(from: ActiveHop, to: ActiveHop, afterMs = 0): void {
    if (this.#distrusted.has(nameOf(from, to))) return;
    let count = 0;
    const making: Making = { pair: { from, to, next: () => count++ }, state: "waits", cancelRetry: () => {} };
    this.#pairs.set(from, making);
    if (afterMs > 0) making.cancelRetry = this.#clock.after(afterMs, () => void this.#make(making));
    else void this.#make(making);
  }

  async #make(making: Making): Promise<void> {
    const { from, to } = making.pair;
    const key = crypto.randomUUID();
    try {
      await to.pushing?.expect(from.hop.peer, key);
      await from.pushing?.pushTo(to.hop.peer, key);
      if (making.state === "waits") making.state = "ready";
    } catch {
      // They cannot reach one another, or do not know how to push.
      if (making.state === "waits") making.cancelRetry = this.#clock.after(RETRY_MS, () => void this.#make(making));
    }
  }

  #drop(from: ActiveHop): void {
    const making = this.#pairs.get(from);
    if (!making) return;
    making.state = "off";
    making.cancelRetry();
    this.#pairs.delete(from);
  }
}

function nameOf(from: ActiveHop, to: ActiveHop): string {
  return `${from.hop.peer} ${to.hop.peer}`;
}
