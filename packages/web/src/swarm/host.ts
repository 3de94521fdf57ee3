/** The worker's side of a page's swarm: one member, which chats over the swarm's path and may contribute this device. */
import { Engine } from "@shoal/engine";
import {
  Contribution,
  type ContributionPhase,
  type SwarmMember,
  type SwarmStage,
  announceClient,
  brokeredNegotiators,
  enterSwarm,
  gaps,
  inviteFromText,
  missingLayers,
  openSwarmStage,
} from "@shoal/swarm";
import { transfer } from "comlink";
import { type ChatApi, openChatApi } from "../chatApi.ts";
import { WebError } from "../errors.ts";
import { Exchanges } from "../exchanges.ts";
import type { PortRequest, PortResponse } from "../protocol.ts";
import { addressSource, manifestAt } from "./address.ts";
import { deviceHost } from "./deviceHost.ts";
import { opfsChunks, opfsManifests } from "./storage.ts";
import type { ContributeOptions, ContributionView, PeerView, SwarmFacts, SwarmOptions, SwarmView } from "./protocol.ts";

const DEFAULT_CONTEXT = 4096;
const DEFAULT_SEQUENCES = 4;
/** The API's status once the engine takes no more requests. */
const STOPPED = 503;
const MAX_EVENTS = 50;
/** Between two counts of tokens that make a speed. */
const RATE_MS = 500;

interface Path extends ChatApi {
  readonly stage: SwarmStage;
}

interface Contributing {
  readonly contribution: Contribution;
  readonly memoryBytes: number;
  readonly stop: AbortController;
  /** When it has left. */
  readonly ended: Promise<void>;
}

export class SwarmHost {
  readonly #leaving = new AbortController();
  readonly #exchanges = new Exchanges((request) => this.#answer(request));
  #entered: SwarmMember | undefined;
  #path: Promise<Path> | undefined;
  #opened: Path | undefined;
  #contributing: Contributing | undefined;
  #phase: ContributionPhase = { name: "choosing" };
  #fetchedBytes = 0;
  #problem: string | null = null;
  #fault: string | null = null;
  readonly #events: string[] = [];
  #counted = { at: 0, tokens: 0, rate: null as number | null };

  /** @param port to the page's `negotiateFor` @throws SwarmError */
  async enter({ invite: text, addresses = [] }: SwarmOptions, port: MessagePort): Promise<SwarmFacts> {
    const invite = inviteFromText(text);
    const { signal } = this.#leaving;
    const member = await enterSwarm(
      {
        invite,
        rtc: brokeredNegotiators(port),
        store: await opfsChunks(invite.manifestDigest),
        manifests: opfsManifests(),
        sources: addresses.map((address) => addressSource(address)),
        makeManifest: async () => {
          for (const address of addresses) {
            const manifest = await manifestAt(address, invite.modelName, signal);
            if (manifest?.digest === invite.manifestDigest) return manifest;
          }
          return undefined;
        },
        onStage: (link, purpose) => {
          if (this.#contributing) void this.#contributing.contribution.use(link, purpose);
          else link.close("this peer only uses the swarm");
        },
        onBytes: (bytes) => (this.#fetchedBytes += bytes),
      },
      signal,
    );
    this.#entered = member;
    announceClient(member.peers, "browser");
    return this.#facts();
  }

  /** Resolves when this device serves; rejects where it does not come so far. @throws SwarmError, GpuError */
  async contribute({ memoryBytes, contextTokens, maxSequences = DEFAULT_SEQUENCES }: ContributeOptions): Promise<void> {
    const member = this.#member();
    if (this.#contributing) throw new WebError("BusyError", "Cannot contribute twice: this device contributes already");
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#leaving.signal]);
    const host = deviceHost(signal, (error) => {
      this.#problem = error.message;
      stop.abort();
    });
    const { maxPositionEmbeddings } = member.checkpoint.config;
    const contribution = new Contribution({
      member,
      host,
      memoryBytes,
      contextTokens: Math.min(contextTokens ?? DEFAULT_CONTEXT, maxPositionEmbeddings),
      maxSequences,
      kind: "browser",
      onPhase: (phase) => {
        this.#phase = phase;
        performance.mark(`swarm: ${phase.name}`);
      },
    });
    this.#problem = null;
    this.#fetchedBytes = 0;
    const taking = contribution.take(signal);
    const serve = async (): Promise<void> => {
      try {
        await taking;
        await contribution.serve(signal);
      } catch (error) {
        if (!signal.aborted) this.#problem ??= error instanceof Error ? error.message : String(error);
      }
      this.#contributing = undefined;
      await host.unload();
      if (!this.#leaving.signal.aborted) announceClient(member.peers, "browser");
    };
    this.#contributing = { contribution, memoryBytes, stop, ended: serve() };
    await taking;
  }

  /** Another peer may take the layers, for a minute at most, and those who use it may finish, for ten seconds. */
  async stopContributing(): Promise<void> {
    this.#contributing?.stop.abort();
    await this.#contributing?.ended;
  }

  view(): SwarmView {
    const { peers, checkpoint } = this.#member();
    const { nLayers } = checkpoint.config;
    const rtts = peers.rtts();
    const kinds = new Map(peers.links().map((link) => [link.remote, link.stats().kind]));
    const own = this.#contributing?.contribution.own?.known;
    const known = own ? [...peers.directory.peers(), own] : peers.directory.peers();
    const views = known.flatMap((one): PeerView[] => {
      const { peer, kind, state, layers, memoryBytes, stepMs, load, tokensPerSecond, freeKvTokens, experts } = one;
      if (!layers || state === "client" || state === "waiting" || state === "helping") return [];
      const helpers = experts?.helpers ?? [];
      const isSelf = peer === peers.id;
      const rttMs = isSelf ? 0 : (rtts.get(peer) ?? null);
      const link = kinds.get(peer) ?? null;
      return [{ peer, isSelf, kind, state, layers, memoryBytes, stepMs, load, tokensPerSecond, freeKvTokens, rttMs, link, helpers }];
    });
    const held = views.filter(({ state }) => state === "serving").map(({ layers }) => layers);
    return {
      ...this.#facts(),
      peers: views.sort((a, b) => a.layers.begin - b.layers.begin || (a.peer < b.peer ? -1 : 1)),
      clients: known.filter(({ state }) => state === "client").length,
      missing: missingLayers(nLayers, held),
      isComplete: gaps(nLayers, held).length === 0,
      path: this.#opened?.stage.path.map(({ peer }) => peer) ?? [],
      tokensPerSecond: this.#rate(),
      contribution: this.#contribution(),
      problem: peers.expelled ? "This peer, or the invite by which it came, was expelled from the swarm" : this.#problem,
      events: [...this.#events],
    };
  }

  fetch(id: number, request: PortRequest): Promise<PortResponse> {
    return this.#exchanges.fetch(id, request);
  }

  /** Null at the end of the body. */
  async read(id: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const bytes = await this.#exchanges.read(id);
    return bytes && transfer(bytes, [bytes.buffer]);
  }

  leave(id: number): Promise<void> {
    return this.#exchanges.leave(id);
  }

  /** What was behind the last answer that failed. */
  fault(): string | null {
    return this.#fault;
  }

  /** Leaves the swarm, politely. */
  async close(): Promise<void> {
    const contributing = this.#contributing;
    contributing?.stop.abort();
    await contributing?.ended;
    this.#leaving.abort();
    const path = this.#opened;
    this.#opened = undefined;
    path?.destroy();
    await path?.stage.destroy();
    await this.#entered?.close();
  }

  /** The path is chosen with the first request, and anew where it was lost for good. */
  async #answer(request: Request): Promise<Response> {
    this.#path ??= this.#openPath();
    let path: Path;
    try {
      path = await this.#path;
    } catch (error) {
      this.#path = undefined;
      throw error;
    }
    const response = await path.answer(request);
    if (response.status === STOPPED && this.#opened === path) {
      this.#path = undefined;
      this.#opened = undefined;
      path.destroy();
      // What it would take leave of is gone.
      void path.stage.destroy().catch(() => {});
    }
    return response;
  }

  async #openPath(): Promise<Path> {
    const member = this.#member();
    const note = (text: string): void => {
      this.#events.push(text);
      if (this.#events.length > MAX_EVENTS) this.#events.shift();
    };
    const opening = openSwarmStage(
      member,
      {
        own: () => this.#contributing?.contribution.own,
        onWait: (what) => note(`Waiting for peers: ${what}`),
        onHandover: (peer, successor) => note(`${shortName(peer)} leaves: ${shortName(successor)} goes on with what it had`),
        onFault: (peer, fault) => note(`${shortName(peer)} ${fault}: its layers go elsewhere`),
        onLiar: (peer, reason) => note(`${shortName(peer)} is banned: ${reason}`),
      },
      this.#leaving.signal,
    );
    // Whoever awaits it below hears of it.
    opening.catch(() => undefined);
    try {
      const api = await openChatApi({
        name: member.manifest.manifest.name,
        checkpoint: member.checkpoint,
        openEngine: async (constraints) => {
          const stage = await opening;
          performance.mark("swarm: path");
          // KV blocks of a path belong to its sequences: no prefix is shared.
          return Engine.open(stage, { prefixCache: false, constraints });
        },
        onFault: (fault) => (this.#fault = fault),
      });
      this.#opened = { ...api, stage: await opening };
      return this.#opened;
    } catch (error) {
      void opening.then((stage) => stage.destroy()).catch(() => {});
      throw error;
    }
  }

  #contribution(): ContributionView | null {
    if (!this.#contributing) return null;
    const { contribution, memoryBytes } = this.#contributing;
    return { phase: this.#phase, memoryBytes, fetchedBytes: this.#fetchedBytes, users: contribution.users };
  }

  #rate(): number | null {
    const status = this.#opened?.engine.status();
    const now = performance.now();
    const { at, tokens } = this.#counted;
    const written = status?.totals.completionTokens ?? 0;
    if (now - at >= RATE_MS) {
      const rate = status && status.running > 0 && written >= tokens ? ((written - tokens) * 1000) / (now - at) : null;
      this.#counted = { at: now, tokens: written, rate };
    }
    return this.#counted.rate;
  }

  #facts(): SwarmFacts {
    const { peers, checkpoint, manifest } = this.#member();
    return { model: manifest.manifest.name, nLayers: checkpoint.config.nLayers, peer: peers.id };
  }

  #member(): SwarmMember {
    if (!this.#entered) throw new WebError("RequestError", "Cannot go on: no swarm was entered");
    return this.#entered;
  }
}

function shortName(peer: string): string {
  return `Peer ${peer.slice(-8)}`;
}
