/**
 * What a joined machine does: claims the layers that are needed most, loads them, serves whoever asks, and takes others where its own are held elsewhere and some are held nowhere.
 */
import { kvBytesPerToken } from "@shoal/checkpoint";
import { PeerLostError, portChannel, remoteStage } from "@shoal/cluster";
import { type LayerRange, type StageDescription, memoryRequirements, stagePlan, weightBytes } from "@shoal/model";
import { type Announcement, type Invite, type Link, chooseRange, gaps, linkChannel, neededChunks } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { RunnerError } from "../errors.ts";
import { formatBytes } from "../format.ts";
import type { GpuClient } from "../gpu/client.ts";
import { adapterLine, deviceRequest } from "../gpu/session.ts";
import { contextTokens } from "../model/runOptions.ts";
import { chunkDirectory } from "./chunkCache.ts";
import { type SwarmMember, enterSwarm } from "./member.ts";

const DEFAULT_MEMORY = 4 * 2 ** 30;
const DEFAULT_SEQUENCES = 8;
/** Full contexts that the KV cache holds at once. */
const FULL_CONTEXTS = 2;
/** Until everybody has been heard of, and until a claim has been. */
const LISTEN_MS = 1500;
const CLAIM_MS = 1200;
const LOOK_MS = 1000;
/** Looks in a row that must find the same before a peer moves: others may be about to. */
const LOOKS_BEFORE_MOVE = 4;
/** Chunks on their way at once. */
const FETCHES = 6;
/** For those who use this peer when it leaves. */
const LEAVE_MS = 10_000;
const WARM_UP_STEPS = 3;

interface Sizes {
  readonly contextTokens: number;
  readonly maxSequences: number;
  readonly kvTokens: number;
}

export class Contribution {
  readonly #invocation: Invocation;
  readonly #client: GpuClient;
  readonly #member: SwarmMember;
  readonly #sizes: Sizes;
  readonly #started = Date.now();
  readonly #users = new Set<Link>();
  #range: LayerRange = { begin: 0, end: 1 };
  #description: StageDescription | undefined;
  #stepMs = 1;

  private constructor(invocation: Invocation, client: GpuClient, member: SwarmMember) {
    this.#invocation = invocation;
    this.#client = client;
    this.#member = member;
    const { values } = invocation;
    const maxSequences = values["max-sequences"] ?? DEFAULT_SEQUENCES;
    const context = contextTokens(values, member.checkpoint.config);
    this.#sizes = { contextTokens: context, maxSequences, kvTokens: Math.min(FULL_CONTEXTS, maxSequences) * context };
  }

  /** Resolves when it serves. */
  static async begin(invocation: Invocation, client: GpuClient, invite: Invite): Promise<Contribution> {
    const { values, terminal, interrupts } = invocation;
    const opening = client.open(deviceRequest(values), interrupts.signal);
    opening.catch(() => {});
    let own: Contribution | undefined;
    const member = await enterSwarm(invite, values, interrupts.signal, (link) => {
      if (own?.serves === true) own.use(link);
      else link.close("this peer has no layers yet");
    });
    try {
      terminal.err(`Adapter: ${adapterLine(await opening)}\n`);
      own = new Contribution(invocation, client, member);
      await own.#take();
      return own;
    } catch (error) {
      await member.close();
      throw error;
    }
  }

  get serves(): boolean {
    return this.#description !== undefined;
  }

  /** Until the signal; then those who use this peer may finish. @throws RunnerError where it is expelled */
  async serve(signal: AbortSignal): Promise<void> {
    let needed = 0;
    const { peers } = this.#member;
    while (!signal.aborted && !peers.expelled) {
      await sleep(LOOK_MS, signal);
      this.#announce("serving");
      needed = this.#isNeededElsewhere() ? needed + 1 : 0;
      // Not all at once: the busier ones of those that hold the same wait longer.
      if (needed >= LOOKS_BEFORE_MOVE + Math.floor(Math.random() * LOOKS_BEFORE_MOVE)) {
        needed = 0;
        await this.#move();
      }
    }
    this.#announce("leaving");
    const end = performance.now() + LEAVE_MS;
    while (this.#users.size > 0 && !peers.expelled && performance.now() < end) await sleep(100);
    await this.#member.checkpoint.close();
    await this.#member.close();
    if (peers.expelled) throw new RunnerError("Cannot go on: this peer, or the invite by which it came, was expelled from the swarm");
  }

  async #take(): Promise<void> {
    const { terminal, values, interrupts } = this.#invocation;
    const { nLayers } = this.#member.checkpoint.config;
    this.#range = await this.#claim();
    const { begin, end } = this.#range;
    terminal.err(`Taking layers ${begin} to ${end - 1} of ${nLayers}, ${formatBytes(this.#bytes(this.#range))}\n`);
    await this.#fetch();
    this.#description = await this.#client.load(
      {
        location: this.#member.location ?? "",
        config: undefined,
        mode: values.mode ?? "w8a32",
        kvFormat: values.kv ?? "f16",
        ...this.#sizes,
        maxOutputs: this.#sizes.maxSequences,
        mtp: false,
        layers: this.#range,
        chunks: { manifestText: this.#member.manifest.text, cacheDirectory: chunkDirectory(this.#member.manifest.digest) },
      },
      () => {},
      interrupts.signal,
    );
    this.#stepMs = await this.#measure();
    this.#announce("serving");
    terminal.out(`Serving layers ${begin} to ${end - 1} of ${nLayers} as ${this.#member.peers.id}\n`);
  }

  /** Says which layers it will take, hears whether somebody else says the same, and gives way to smaller names. */
  async #claim(): Promise<LayerRange> {
    const { peers, checkpoint } = this.#member;
    const { nLayers } = checkpoint.config;
    const memoryBytes = this.#invocation.values.memory ?? DEFAULT_MEMORY;
    await sleep(LISTEN_MS);
    for (;;) {
      this.#invocation.interrupts.signal.throwIfAborted();
      const range = this.#choose(memoryBytes, () => true);
      if (!range) {
        const least = Math.min(...Array.from({ length: nLayers }, (_, begin) => this.#bytes({ begin, end: begin + 1 })));
        throw new RunnerError(
          `Cannot join with ${formatBytes(memoryBytes)}: one layer takes ${formatBytes(least)}, expected at least as much by '--memory'`,
        );
      }
      this.#range = range;
      this.#announce("claiming");
      await sleep(CLAIM_MS);
      const again = this.#choose(memoryBytes, ({ peer, state }) => state !== "claiming" || peer < peers.id);
      if (again?.begin === range.begin && again.end === range.end) return range;
    }
  }

  #choose(memoryBytes: number, counts: (peer: Announcement) => boolean): LayerRange | undefined {
    const { peers, checkpoint } = this.#member;
    const others = peers.directory.peers().filter(({ layers }) => layers !== null);
    return chooseRange({
      nLayers: checkpoint.config.nLayers,
      bytes: (range) => this.#bytes(range),
      memoryBytes,
      peers: others.filter((peer) => counts(peer)),
    });
  }

  #bytes(range: LayerRange): number {
    const { checkpoint } = this.#member;
    const { config } = checkpoint;
    const plan = stagePlan(config, { ...this.#sizes, layers: range });
    const { activations } = memoryRequirements(checkpoint, { ...plan, kvFormat: "f16" });
    const kv = this.#sizes.kvTokens * kvBytesPerToken(config, "f16", range.end - range.begin);
    return weightBytes(checkpoint, { range, mtp: false }) + kv + activations;
  }

  /** From other peers, where this machine has no copy. */
  async #fetch(): Promise<void> {
    const { checkpoint, manifest, files, location } = this.#member;
    if (location !== undefined) return;
    const { signal } = this.#invocation.interrupts;
    const chunks = [...neededChunks(checkpoint, manifest.manifest, this.#range)];
    const fetchSome = async (): Promise<void> => {
      for (let chunk = chunks.pop(); chunk; chunk = chunks.pop()) await files.chunk(chunk.file, chunk.index, signal);
    };
    await Promise.all(Array.from({ length: FETCHES }, fetchSome));
  }

  /** One token through the layers, as another peer sees it; without the way there. */
  async #measure(): Promise<number> {
    const { port1, port2 } = new MessageChannel();
    const stage = remoteStage(portChannel(port1), { peer: "the GPU worker" });
    await this.#client.serveStage(port2);
    const { hiddenSize } = this.#member.checkpoint.config;
    const sequence = await stage.open();
    const times: number[] = [];
    for (let i = 0; i < WARM_UP_STEPS; i++) {
      const begin = performance.now();
      const hidden = this.#range.begin > 0 ? { hidden: new Float32Array(hiddenSize) } : {};
      await stage.forward({ entries: [{ sequence, tokens: [0], ...hidden }], output: "hidden" });
      times.push(performance.now() - begin);
    }
    await stage.destroy();
    return Math.min(...times);
  }

  /** A link by which another peer uses the stage. */
  use(link: Link): void {
    const { port1, port2 } = new MessageChannel();
    const near = portChannel(port1);
    const far = linkChannel(link);
    this.#users.add(link);
    near.onFrame((frame) => far.send(frame));
    far.onFrame((frame) => near.send(frame));
    void near.closed.then((reason) => far.close(reason));
    void far.closed.then((reason) => {
      this.#users.delete(link);
      near.close(reason);
    });
    this.#client.serveStage(port2).catch((error: unknown) => far.close(error instanceof PeerLostError ? error.message : String(error)));
  }

  #announce(state: "claiming" | "serving" | "leaving"): void {
    const { maxSequences, kvTokens } = this.#sizes;
    this.#member.peers.announce({
      started: this.#started,
      state,
      layers: this.#range,
      memoryBytes: this.#invocation.values.memory ?? DEFAULT_MEMORY,
      stepMs: this.#stepMs,
      load: this.#users.size / maxSequences,
      freeKvTokens: kvTokens,
      kind: "deno",
    });
  }

  /** Layers are missing, and would be no more so if this peer left its own. */
  #isNeededElsewhere(): boolean {
    const { nLayers } = this.#member.checkpoint.config;
    const others = this.#member.peers.directory.peers().flatMap(({ layers, state }) => (layers && state !== "leaving" ? [layers] : []));
    const missing = gaps(nLayers, [...others, this.#range]);
    return missing.length > 0 && JSON.stringify(missing) === JSON.stringify(gaps(nLayers, others)) && this.#users.size === 0;
  }

  async #move(): Promise<void> {
    const { terminal, values, interrupts } = this.#invocation;
    terminal.err("Others hold these layers, and some are held by nobody: moving\n");
    this.#description = undefined;
    this.#announce("leaving");
    await this.#client.unload();
    await this.#client.open(deviceRequest(values), interrupts.signal);
    await this.#take();
  }
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
