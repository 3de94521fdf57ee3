/**
 * One peer's links for pushing, to those whom its users name and from those who push to it. What comes over one counts where a user of this peer has said that it will come: under that key,
 * from that peer. Everything else is dropped, so that nobody who is not on a path can put anything into it.
 */
import type { Frame, FrameChannel } from "@shoal/cluster";
import { SwarmError } from "../errors.ts";
import { decodePush } from "./messages.ts";
import type { PushInbox } from "./pushInbox.ts";

/** Peers that this one pushes to at once. */
const MAX_TARGETS = 64;

export interface PushLinksOptions {
  /** A channel to a member of the swarm. @throws SwarmError */
  readonly connect: (peer: string) => Promise<FrameChannel>;
}

/** One user's way to a peer; several share the link. */
export interface PushLine {
  /** @returns whether the link is there */
  send(frame: Frame): boolean;
  release(): void;
}

interface Target {
  readonly opening: Promise<FrameChannel>;
  users: number;
  open: boolean;
}

export class PushLinks {
  readonly #options: PushLinksOptions;
  readonly #expected = new Map<string, PushInbox>();
  readonly #targets = new Map<string, Target>();

  constructor(options: PushLinksOptions) {
    this.#options = options;
  }

  /** @returns what ends it @throws SwarmError malformed for a key that is in use */
  expect(from: string, key: string, inbox: PushInbox): () => void {
    const name = `${from} ${key}`;
    if (this.#expected.has(name)) throw new SwarmError("malformed", "Cannot expect pushes: their key is in use", { field: "key" });
    this.#expected.set(name, inbox);
    return () => void this.#expected.delete(name);
  }

  /** A link that another peer asked for, whose membership is proven. */
  receive(from: string, channel: FrameChannel): void {
    channel.onFrame((frame) => {
      try {
        const { key, number, hidden } = decodePush(frame);
        this.#expected.get(`${from} ${key}`)?.arrived(number, hidden);
      } catch (error) {
        channel.close(error instanceof Error ? error.message : String(error));
      }
    });
  }

  /** @throws SwarmError */
  async to(peer: string): Promise<PushLine> {
    const target = this.#targets.get(peer) ?? this.#open(peer);
    target.users++;
    let mine = true;
    const release = (): void => {
      if (!mine) return;
      mine = false;
      if (--target.users === 0) this.#close(peer, target);
    };
    try {
      const channel = await target.opening;
      return {
        send: (frame) => {
          if (target.open) channel.send(frame);
          return target.open;
        },
        release,
      };
    } catch (error) {
      release();
      throw error;
    }
  }

  #open(peer: string): Target {
    if (this.#targets.size >= MAX_TARGETS) throw new SwarmError("overloaded", `Cannot push to '${peer}': there are ${MAX_TARGETS} others`);
    const target: Target = { opening: this.#options.connect(peer), users: 0, open: true };
    this.#targets.set(peer, target);
    const ended = (): void => {
      target.open = false;
      if (this.#targets.get(peer) === target) this.#targets.delete(peer);
    };
    target.opening.then((channel) => {
      channel.onFrame(() => channel.close("whoever is pushed to has nothing to say"));
      return channel.closed.then(ended);
    }, ended);
    return target;
  }

  #close(peer: string, target: Target): void {
    if (this.#targets.get(peer) === target) this.#targets.delete(peer);
    target.open = false;
    target.opening.then(
      (channel) => channel.close("not needed any more"),
      () => {},
    );
  }
}
