/** Holding experts for another peer's stage: the offer, what it asks for, and until it goes. */
import type { ExpertShard } from "@shoal/model";
import { expertBytes, shardActivationBytes } from "@shoal/model";
import { type Clock, pause } from "../clock.ts";
import { deferred } from "../deferred.ts";
import { SwarmError, malformed } from "../errors.ts";
import type { Link } from "../link/link.ts";
import { linkChannel } from "../link/linkChannel.ts";
import type { LayerRange } from "../plan/range.ts";
import { serveHelp } from "../experts/helperPort.ts";
import { type HeldExperts, type Offer, maxExpertBytes } from "../experts/messages.ts";
import type { SwarmMember } from "./entry.ts";

/** For the other to measure the link and to make up its mind; more might come later that it waits for. */
const DECIDE_MS = 15_000;
/** For somebody else to load the same when this peer leaves; and until it looks as if nobody would: time enough to be heard, and for those who wait to come. */
const HANDOVER_MS = 60_000;
const HOPE_MS = 5000;
const LOOK_MS = 100;

export interface HelpingOptions {
  readonly member: SwarmMember;
  readonly clock: Clock;
  /** Whose stage it is. */
  readonly peer: string;
  readonly memoryBytes: number;
  /** @param gap layers that nobody holds */
  readonly offer: (gap: LayerRange) => Offer | Promise<Offer>;
  /** In place of what was loaded before. The signal: nobody wants them any more. */
  readonly load: (held: HeldExperts, signal: AbortSignal) => Promise<ExpertShard>;
}

export class Helping {
  readonly peer: string;
  /** What is held. */
  readonly held: HeldExperts;
  /** Resolves, with the reason, when they are not wanted any more, or the other is gone. */
  readonly ended: Promise<Error>;
  readonly #options: HelpingOptions;
  readonly #link: Link;

  private constructor(options: HelpingOptions, held: HeldExperts, link: Link) {
    this.peer = options.peer;
    this.held = held;
    this.ended = link.closed;
    this.#options = options;
    this.#link = link;
  }

  /** Resolves when experts are held; with the reason where none are wanted of this peer. @throws whatever the signal is aborted with */
  static async begin(options: HelpingOptions, signal: AbortSignal): Promise<Helping | Error> {
    const { member, clock, peer, offer } = options;
    const { hiddenSize, nActivatedExperts } = member.checkpoint.config;
    let link;
    try {
      link = await member.peers.connect(peer, "experts", signal);
    } catch (error) {
      signal.throwIfAborted();
      return error instanceof Error ? error : new Error(String(error));
    }
    const asked = deferred<void>();
    const loaded = deferred<HeldExperts>();
    const patience = new AbortController();
    const unwanted = new AbortController();
    let loading: Promise<unknown> = Promise.resolve();
    void link.closed.then((reason) => unwanted.abort(reason));
    serveHelp({
      channel: linkChannel(link, maxExpertBytes(hiddenSize, nActivatedExperts)),
      offer,
      hold: async (held) => {
        checkHeld(held, options);
        asked.resolve();
        const work = options.load(held, unwanted.signal);
        loading = work.catch(() => undefined);
        const shard = await work;
        loaded.resolve(held);
        return shard;
      },
    });
    const stop = (): void => link.close("this peer leaves");
    signal.addEventListener("abort", stop, { once: true });
    try {
      const decided = pause(clock, DECIDE_MS, AbortSignal.any([signal, patience.signal])).then(
        () => link.close("it was not asked for anything"),
        () => undefined,
      );
      void asked.promise.then(() => patience.abort());
      const outcome = await Promise.race([loaded.promise, link.closed]);
      patience.abort();
      await decided;
      // The device is free again then.
      if (outcome instanceof Error) await loading;
      signal.throwIfAborted();
      return outcome instanceof Error ? outcome : new Helping(options, outcome, link);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** This peer says that it leaves: holds on until the stage has its experts from somebody else, or it looks as if nobody will load them. */
  async handOver(): Promise<void> {
    const { member, clock } = this.#options;
    const { peers } = member;
    const state = { ended: false };
    void this.ended.then(() => (state.ended = true));
    const end = clock.now() + HANDOVER_MS;
    let hopedAt = clock.now();
    while (!state.ended && !peers.expelled && clock.now() < end && clock.now() - hopedAt < HOPE_MS) {
      await pause(clock, LOOK_MS);
      if (peers.directory.peers().some((one) => one.state === "waiting" && one.peer !== this.peer)) hopedAt = clock.now();
    }
    this.#link.close("this peer leaves");
  }
}

/** What a stage asks for is somebody else's word. */
function checkHeld({ layers, begin, end, maxTokens }: HeldExperts, { member, memoryBytes }: HelpingOptions): void {
  const { checkpoint } = member;
  const { nLayers, nDenseLayers, nRoutedExperts } = checkpoint.config;
  if (layers.end > nLayers || layers.end <= nDenseLayers)
    throw malformed("what is to be held", "'layers.end'", layers.end, `${nDenseLayers + 1} to ${nLayers}`);
  if (end > nRoutedExperts) throw malformed("what is to be held", "'end'", end, `at most ${nRoutedExperts}`);
  const bytes = (end - begin) * expertBytes(checkpoint, layers) + shardActivationBytes(checkpoint, maxTokens);
  if (bytes > memoryBytes)
    throw new SwarmError(
      "overloaded",
      `Cannot hold ${end - begin} experts of layers ${layers.begin} to ${layers.end - 1}: they take ${bytes} bytes, expected at most ${memoryBytes}`,
    );
}
