/** A peer that holds experts for this peer's stage, or would: the link to it as measured, what it offers, and its answers, which are checked before anything is made of them. */
import { Caller, RemoteExpertShard, Tensor, parsed } from "@shoal/cluster";
import type { ExpertCall } from "@shoal/model";
import { type Clock, every } from "../clock.ts";
import { SwarmError } from "../errors.ts";
import type { Link } from "../link/link.ts";
import { linkChannel } from "../link/linkChannel.ts";
import type { ExpertRange, HelperOffer } from "../plan/experts.ts";
import type { LayerRange } from "../plan/range.ts";
import { HELP_TARGET, type HeldExperts, type Offer, PROBE_VALUES, SHARD_TARGET, maxExpertBytes, offerResult } from "./messages.ts";

/** Until the link's round trip counts: some signs of life. */
const MEASURE_MS = 1500;
const LOOK_MS = 100;
/** For an answer, of a peer whose link lives: a device that compiles takes half a minute. */
const MOST_RUN_MS = 60_000;
/** Of a link whose probe took no longer than its round trip. */
const FASTEST_LINK = 1e11;

export interface HelperOptions {
  readonly link: Link;
  readonly clock: Clock;
  readonly hiddenSize: number;
  /** Experts that a row names. */
  readonly slots: number;
  /** It answered what cannot be. */
  readonly onLie: (peer: string, reason: string) => void;
}

export class Helper {
  readonly peer: string;
  /** Resolves when nothing more comes from it. */
  readonly lost: Promise<unknown>;
  readonly #options: HelperOptions;
  readonly #caller: Caller;
  readonly #shard: RemoteExpertShard;
  readonly #since: number;
  readonly #stop: () => void;
  #offer: Offer | undefined;
  #rttMs = Number.POSITIVE_INFINITY;
  #probeMs = Number.POSITIVE_INFINITY;
  /** When calls that wait were made. */
  readonly #waiting = new Map<symbol, number>();
  #held: ExpertRange | undefined;

  constructor(options: HelperOptions) {
    const { link, clock, hiddenSize, slots } = options;
    this.#options = options;
    this.peer = link.remote;
    const channel = linkChannel(link, maxExpertBytes(hiddenSize, slots));
    this.#caller = new Caller(channel, { peer: link.remote, silenceMs: Number.POSITIVE_INFINITY });
    this.#shard = new RemoteExpertShard({ caller: this.#caller, target: SHARD_TARGET });
    this.#since = clock.now();
    this.#stop = every(clock, LOOK_MS, () => this.#look());
    this.lost = this.#caller.lost;
    void this.lost.then(this.#stop);
  }

  /** What it holds, or is to hold. */
  get held(): ExpertRange | undefined {
    return this.#held;
  }

  /** As measured so far; undefined until that can be relied on. */
  get offer(): HelperOffer | undefined {
    const { clock } = this.#options;
    if (!this.#offer || this.#rttMs === Number.POSITIVE_INFINITY || clock.now() - this.#since < MEASURE_MS) return undefined;
    const sendMs = this.#probeMs - this.#rttMs;
    const linkBytesPerSecond = sendMs > 0 ? Math.min(FASTEST_LINK, (PROBE_VALUES * 4000) / sendMs) : FASTEST_LINK;
    return { ...this.#offer, peer: this.peer, rttMs: this.#rttMs, linkBytesPerSecond };
  }

  /** @throws whatever ends it: then it is closed */
  async ask(gap: LayerRange): Promise<void> {
    try {
      this.#offer = parsed(offerResult, "offer result", await this.#caller.call(HELP_TARGET, "offer", { gap }));
      const { clock } = this.#options;
      // The first of them finds a window that has not opened yet.
      for (let probe = 0; probe < 3; probe++) {
        const began = clock.now();
        await this.#caller.call(HELP_TARGET, "probe", { padding: new Tensor(new Float32Array(PROBE_VALUES)) });
        this.#probeMs = Math.min(this.#probeMs, clock.now() - began);
      }
    } catch (error) {
      this.close("it was not understood");
      throw error;
    }
  }

  /** Resolves when they are loaded. @throws whatever ends it: then it is closed */
  async hold(held: HeldExperts): Promise<void> {
    this.#held = held;
    try {
      await this.#caller.call(HELP_TARGET, "hold", held);
    } catch (error) {
      this.close("it cannot hold them");
      throw error;
    }
  }

  /** @throws whatever went wrong: then it is closed, for nothing that it says is of use any more */
  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    const waits = Symbol("call");
    this.#waiting.set(waits, this.#options.clock.now());
    try {
      const sums = await this.#shard.run(call);
      if (!sums.every((value) => Number.isFinite(value))) {
        const reason = "the sums of its experts are not all numbers";
        this.#options.onLie(this.peer, reason);
        throw new SwarmError("malformed", `Cannot use what '${this.peer}' gave: ${reason}`);
      }
      return sums;
    } catch (error) {
      this.close("it did not answer as it should");
      throw error;
    } finally {
      this.#waiting.delete(waits);
    }
  }

  close(reason: string): void {
    this.#stop();
    this.#options.link.close(reason);
  }

  #look(): void {
    const { link, clock } = this.#options;
    const { rttMs, silentMs } = link.stats();
    // The least: whatever else these machines do makes it longer, never shorter.
    if (rttMs !== undefined) this.#rttMs = Math.min(this.#rttMs, rttMs);
    if (this.#waiting.size === 0) return;
    if (silentMs > 0) this.close(`it has been silent for ${Math.round(silentMs)} ms`);
    else if (clock.now() - Math.min(...this.#waiting.values()) > MOST_RUN_MS) this.close("it has not answered for too long");
  }
}
