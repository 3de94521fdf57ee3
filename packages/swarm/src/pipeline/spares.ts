/**
 * Links to those who would take over, made before they are needed: to find somebody, prove oneself and connect takes seconds on a busy machine, and they would pass in the middle of
 * an answer. A spare link is a thin one, and widened when it is taken.
 */
import type { Link } from "../link/link.ts";

/** After one could not be made. */
const RETRY_MS = 5000;

export interface SparesOptions {
  readonly connect: (peer: string) => Promise<Link>;
  readonly now?: () => number;
}

export class Spares {
  readonly #options: SparesOptions;
  readonly #links = new Map<string, Link>();
  readonly #connecting = new Set<string>();
  readonly #failedAt = new Map<string, number>();
  #wanted: ReadonlySet<string> = new Set();

  constructor(options: SparesOptions) {
    this.#options = options;
  }

  /** Who may have to take over, from now on: links to others are closed. */
  want(peers: ReadonlySet<string>): void {
    this.#wanted = peers;
    for (const [peer, link] of this.#links)
      if (!peers.has(peer)) {
        this.#links.delete(peer);
        link.close("not needed");
      }
    for (const peer of peers) void this.#prepare(peer);
  }

  /** A link to this peer, if there is one; whoever takes it owns it. */
  take(peer: string): Link | undefined {
    const link = this.#links.get(peer);
    this.#links.delete(peer);
    return link;
  }

  async #prepare(peer: string): Promise<void> {
    const now = (this.#options.now ?? performance.now.bind(performance))();
    const failedAt = this.#failedAt.get(peer);
    if (this.#links.has(peer) || this.#connecting.has(peer) || (failedAt !== undefined && now - failedAt < RETRY_MS)) return;
    this.#connecting.add(peer);
    try {
      const link = await this.#options.connect(peer);
      this.#failedAt.delete(peer);
      if (!this.#wanted.has(peer)) return link.close("not needed");
      this.#links.set(peer, link);
      void link.closed.then(() => {
        if (this.#links.get(peer) === link) this.#links.delete(peer);
      });
    } catch {
      this.#failedAt.set(peer, now);
    } finally {
      this.#connecting.delete(peer);
    }
  }
}
