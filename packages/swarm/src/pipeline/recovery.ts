/**
 * Steps and other calls go on side by side, and a stage that fails fails several of them. So whoever meets a fault stops; when everything has stopped or is done, each failed stage is
 * replaced once, and all go on from where they have to. Nothing new begins meanwhile.
 */
import { type Deferred, deferred } from "../deferred.ts";
import type { LayerRange } from "../plan/range.ts";
import type { ActiveHop, HopFault } from "./hop.ts";

/** Something that goes through the stages. */
export interface Walker {
  /** What has gone through these layers, if it stands within them, goes through all of them again. */
  takeBack(range: LayerRange): void;
}

interface Stopped {
  readonly walker: Walker;
  readonly hop: ActiveHop;
  readonly fault: HopFault;
  readonly going: Deferred<void>;
}

export interface RecoveryOptions {
  /** Whether it is on the path still. */
  readonly isUsed: (hop: ActiveHop) => boolean;
  /** Puts others in its place. @param before told what is replaced, before anything is computed again @throws SwarmError where there is nobody */
  readonly replace: (hop: ActiveHop, fault: HopFault, before: (range: LayerRange) => void) => Promise<void>;
}

export class Recovery {
  readonly #options: RecoveryOptions;
  #walking = 0;
  #stopped: Stopped[] = [];
  /** While something is to be replaced. */
  #standstill: Deferred<void> | undefined;
  #replacing = false;
  /** Whoever waits for everything to stand still: resolves with whether it does, and nothing was to be replaced. */
  #still: Deferred<boolean> | undefined;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /** @param work calls `replaced` for whatever fault it meets */
  async walk<T>(work: () => Promise<T>): Promise<T> {
    while (this.#standstill) await this.#standstill.promise;
    this.#walking++;
    try {
      return await work();
    } finally {
      this.#walking--;
      this.#look();
    }
  }

  /** Stops, and resolves when the stage has been replaced and the walker taken back. @throws SwarmError where nobody has taken its place */
  replaced(walker: Walker, hop: ActiveHop, fault: HopFault): Promise<void> {
    const going = deferred<void>();
    this.#stopped.push({ walker, hop, fault, going });
    this.#standstill ??= deferred<void>();
    this.#walking--;
    this.#look();
    return going.promise;
  }

  /** When everything that was under way is done, and before anything else begins. One at a time. */
  async whileStill<T>(work: () => Promise<T>): Promise<T> {
    for (let isStill = false; !isStill;) {
      while (this.#standstill) await this.#standstill.promise;
      const still = deferred<boolean>();
      this.#standstill = deferred<void>();
      this.#still = still;
      this.#look();
      isStill = await still.promise;
    }
    try {
      return await work();
    } finally {
      this.#replacing = false;
      this.#goOn();
    }
  }

  #look(): void {
    if (this.#walking > 0 || this.#replacing) return;
    if (this.#stopped.length > 0) return void this.#recover();
    if (!this.#still) return;
    this.#replacing = true;
    this.#endWait(true);
  }

  #endWait(still: boolean): void {
    this.#still?.resolve(still);
    this.#still = undefined;
  }

  #goOn(): void {
    const standstill = this.#standstill;
    this.#standstill = undefined;
    standstill?.resolve();
  }

  async #recover(): Promise<void> {
    this.#replacing = true;
    const stopped = this.#stopped.splice(0);
    const failed = new Map<ActiveHop, unknown>();
    for (const { hop, fault } of stopped) {
      if (failed.has(hop) || !this.#options.isUsed(hop)) continue;
      try {
        await this.#options.replace(hop, fault, (range) => stopped.forEach(({ walker }) => walker.takeBack(range)));
      } catch (error) {
        failed.set(hop, error);
      }
    }
    this.#replacing = false;
    this.#walking += stopped.length;
    this.#endWait(false);
    for (const { hop, going } of stopped) {
      if (failed.has(hop)) going.reject(failed.get(hop));
      else going.resolve();
    }
    this.#goOn();
  }
}
