/** A peer of tests: a fake stage that can be killed or fall silent, reached by calls, or by channels over which stages push to one another. */
import { type DraftingStage, type FrameChannel, SharedStage, memoryChannel, serveStage } from "@shoal/cluster";
import type { KnownPeer } from "../src/control/directory.ts";
import { deferred } from "../src/deferred.ts";
import { openedOver } from "../src/member/client.ts";
import type { OpenedHop } from "../src/pipeline/hop.ts";
import { PushLinks } from "../src/push/pushLinks.ts";
import { servePushing } from "../src/push/pushPort.ts";
import { FAKE, FakeStage, forwardTold } from "./fakeModel.ts";
import { MODEL, serving } from "./swarmFixture.ts";

/** Peers that push find one another by name. */
export type FakeNetwork = Map<string, FakePeer>;

export class FakePeer {
  readonly name: string;
  readonly stage: FakeStage;
  known: KnownPeer;
  readonly links: PushLinks;
  readonly #lost = deferred<unknown>();
  readonly #channels = new Set<FrameChannel>();
  readonly #shared: SharedStage;
  #network: FakeNetwork | undefined;
  dead = false;
  /** As its link tells. */
  silentMs = 0;
  /** Frames that came to it by pushing, and what becomes of each on its way: as many copies as this gives. */
  pushes = 0;
  /** Links over which they came. */
  readonly pushedOver: FrameChannel[] = [];
  onPush: (frame: Uint8Array<ArrayBuffer>) => readonly Uint8Array<ArrayBuffer>[] = (frame) => [frame];

  constructor(name: string, begin: number, end: number, stepMs = 10) {
    this.name = name;
    this.stage = new FakeStage({ begin, end });
    this.#shared = new SharedStage(this.stage);
    this.known = { ...serving(begin, end, { stepMs }), peer: name, model: MODEL, number: 1, rtts: {}, heardAt: 0 };
    this.links = new PushLinks({
      connect: async (peer) => {
        const target = this.#network?.get(peer);
        if (!target || target.dead) throw new Error(`Cannot connect to '${peer}'`);
        return target.pushedBy(this);
      },
    });
  }

  /** From now on it is used by channels, and pushes to those in this network. */
  join(network: FakeNetwork): this {
    network.set(this.name, this);
    this.#network = network;
    return this;
  }

  /** It says that it leaves, and is there until it is killed. */
  leave(): void {
    this.known = { ...this.known, state: "leaving" };
  }

  kill(): void {
    this.dead = true;
    this.#lost.resolve(new Error("killed"));
    for (const channel of this.#channels) channel.close("killed");
  }

  /** A link from another peer to this one. */
  pushedBy(from: FakePeer): FrameChannel {
    const [mine, theirs] = memoryChannel();
    this.#channels.add(mine);
    from.#channels.add(theirs);
    this.pushedOver.push(mine);
    const heard = this.#slow(mine);
    this.links.receive(from.name, {
      ...heard,
      onFrame: (receive) =>
        heard.onFrame((frame) => {
          this.pushes++;
          for (const each of this.onPush(frame)) receive(each);
        }),
    });
    return theirs;
  }

  opened(): OpenedHop {
    if (!this.#network) return this.#openedByCalls();
    const [mine, theirs] = memoryChannel();
    this.#channels.add(theirs);
    const [near, far] = memoryChannel();
    void serveStage(far, this.#shared, { ownsStage: false });
    servePushing({ near, far: this.#slow(theirs), links: this.links, hiddenSize: FAKE.hiddenSize, maxTokens: 16 });
    return { ...openedOver(mine, this.name, FAKE.hiddenSize, "f32"), silentMs: () => this.silentMs };
  }

  /** Calls take a turn or two of the event loop, as over a link, and none is answered once the peer is dead. */
  #openedByCalls(): OpenedHop {
    const away = new Promise<never>(() => {});
    const stage = new Proxy<DraftingStage>(this.#shared, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return async (...args: unknown[]) => {
          await new Promise((resolve) => setImmediate(resolve));
          if (this.dead) return away;
          const result: unknown = await Reflect.apply(value, target, args);
          await new Promise((resolve) => setImmediate(resolve));
          return this.dead ? away : result;
        };
      },
    });
    return {
      stage,
      forwardTold: (batch) => forwardTold(stage, batch),
      forwardDrafted: (batch, drafting) => stage.forwardDrafted(batch, drafting),
      lost: this.#lost.promise,
      silentMs: () => this.silentMs,
      close: () => {},
    };
  }

  /** Frames take a turn of the event loop each way, and go nowhere once the peer is dead. */
  #slow(channel: FrameChannel): FrameChannel {
    return {
      closed: channel.closed,
      send: (frame) => void setImmediate(() => !this.dead && channel.send(frame)),
      onFrame: (receive) => channel.onFrame((frame) => void setImmediate(() => !this.dead && receive(frame))),
      close: (reason) => channel.close(reason),
    };
  }
}
