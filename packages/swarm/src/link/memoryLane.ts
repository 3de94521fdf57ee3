/** Lanes within one thread, for tests and for peers that share a process: with a delay, damage, and a cable that can be cut, on a clock of the test's own. */
import { type Clock, SYSTEM_CLOCK } from "../clock.ts";
import type { Lane, LaneEvents } from "./lane.ts";

export interface MemoryLaneOptions {
  readonly clock?: Clock;
  /** One way. */
  readonly delayMs?: () => number;
  /** What becomes of a frame on its way: itself, another, or nothing. */
  readonly tamper?: (frame: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined;
}

export interface MemoryLane extends Lane {
  /** Nothing arrives any more in either direction, and nobody is told: as when a machine loses power. */
  cut(): void;
}

export function memoryLanes(options: MemoryLaneOptions = {}): readonly [MemoryLane, MemoryLane] {
  const cable = { state: "whole" as Cable["state"] };
  const first = new End(cable, options);
  const second = new End(cable, options);
  first.other = second;
  second.other = first;
  return [first, second];
}

interface Cable {
  state: "whole" | "cut" | "closed";
}

class End implements MemoryLane {
  readonly kind = "memory";
  readonly bufferedBytes = 0;
  other: End | undefined;
  readonly #cable: Cable;
  readonly #clock: Clock;
  readonly #options: MemoryLaneOptions;
  #events: LaneEvents | undefined;
  #early: Uint8Array[] = [];
  #arriveAt = 0;

  constructor(cable: Cable, options: MemoryLaneOptions) {
    this.#cable = cable;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  listen(events: LaneEvents): void {
    this.#events = events;
    for (const frame of this.#early.splice(0)) events.onFrame(frame);
  }

  send(frame: Uint8Array<ArrayBuffer>): void {
    const { tamper, delayMs } = this.#options;
    const sent = this.#cable.state === "whole" ? (tamper ? tamper(frame) : frame)?.slice() : undefined;
    if (sent) this.other?.arrive(sent, delayMs?.() ?? 0);
  }

  arrive(frame: Uint8Array, delayMs: number): void {
    const now = this.#clock.now();
    // In order, also where delays differ.
    this.#arriveAt = Math.max(this.#arriveAt, now + delayMs);
    this.#clock.after(this.#arriveAt - now, () => {
      if (this.#cable.state !== "whole") return;
      if (this.#events) this.#events.onFrame(frame);
      else this.#early.push(frame);
    });
  }

  close(): void {
    if (this.#cable.state === "closed") return;
    const told = this.#cable.state === "whole";
    // What was sent before, a farewell for one, still arrives.
    this.#clock.after(this.#options.delayMs?.() ?? 0, () => {
      this.#cable.state = "closed";
      this.#events?.onClose("closed");
      if (told) this.other?.hearClose();
    });
  }

  hearClose(): void {
    this.#events?.onClose("closed by the other end");
  }

  cut(): void {
    this.#cable.state = "cut";
  }
}
