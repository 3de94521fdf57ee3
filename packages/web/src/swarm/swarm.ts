/** The page's side: a member of a swarm in a worker, spoken to as OpenAI's client is. */
import { negotiateFor } from "@shoal/swarm/page";
import { type Remote, transfer, wrap } from "comlink";
import { type ChatBackend, createClient } from "../client.ts";
import { WebError } from "../errors.ts";
import { portFetch } from "../portFetch.ts";
import type { SwarmHost } from "./host.ts";
import type { ContributeOptions, SwarmFacts, SwarmOptions, SwarmView } from "./protocol.ts";

export class Swarm implements ChatBackend {
  readonly chat: ChatBackend["chat"];
  readonly models: ChatBackend["models"];
  /** The server's API, answered over the swarm. */
  readonly fetch: typeof globalThis.fetch;
  readonly facts: SwarmFacts;
  readonly #member: Member;

  /** @throws Error with SwarmError's message: an invite that cannot be read, no relay, nobody who has the model */
  static async enter(options: SwarmOptions, signal?: AbortSignal): Promise<Swarm> {
    signal?.throwIfAborted();
    const member = new Member(options);
    const stop = (): void => member.end(signal?.reason as Error);
    signal?.addEventListener("abort", stop, { once: true });
    try {
      return new Swarm(member, await member.enter(options));
    } catch (error) {
      member.end(new WebError("RequestError", "Cannot go on: the swarm was not entered"));
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  private constructor(member: Member, facts: SwarmFacts) {
    this.#member = member;
    this.facts = facts;
    this.fetch = portFetch(member.host, member.death);
    const client = createClient({ baseUrl: "http://swarm.invalid/v1", fetch: this.fetch });
    this.chat = client.chat;
    this.models = client.models;
  }

  view(): Promise<SwarmView> {
    return this.#member.call((host) => host.view());
  }

  /** Resolves when this device serves layers to the others. */
  contribute(options: ContributeOptions): Promise<void> {
    return this.#member.call((host) => host.contribute(options));
  }

  /** Another peer may take the layers, for a minute at most, and those who use this device may finish, for ten seconds. */
  stopContributing(): Promise<void> {
    return this.#member.call((host) => host.stopContributing());
  }

  /** Leaves the swarm: says so to the others, then ends the worker. */
  async close(): Promise<void> {
    // Whoever cannot be told finds out by the silence; the worker ends in any case.
    await this.#member.call((host) => host.close()).catch(() => {});
    this.#member.end(new WebError("RequestError", "Cannot go on: the swarm was left"));
  }
}

/** Worker and WebRTC. */
class Member {
  readonly host: Remote<SwarmHost>;
  /** Rejects when nothing will be answered any more. */
  readonly death: Promise<never>;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #stopNegotiating: () => void;
  readonly #die: (reason: Error) => void;

  constructor({ iceServers = [] }: SwarmOptions) {
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "shoal swarm" });
    this.host = wrap<SwarmHost>(this.#worker);
    const { port1, port2 } = new MessageChannel();
    this.#port = port2;
    this.#stopNegotiating = negotiateFor(port1, { PeerConnection: RTCPeerConnection, iceServers });
    const { promise, reject } = Promise.withResolvers<never>();
    this.death = promise;
    this.#die = reject;
    // Nobody may be waiting when it happens.
    promise.catch(() => {});
    this.#worker.addEventListener("error", ({ message }) => reject(new Error(`Cannot go on: the swarm's worker died: ${message}`)));
  }

  enter(options: SwarmOptions): Promise<SwarmFacts> {
    return this.call((host) => host.enter(options, transfer(this.#port, [this.#port])));
  }

  call<T>(ask: (host: Remote<SwarmHost>) => Promise<T>): Promise<T> {
    return Promise.race([ask(this.host), this.death]);
  }

  end(reason: Error): void {
    this.#die(reason);
    this.#worker.terminate();
    this.#stopNegotiating();
  }
}
