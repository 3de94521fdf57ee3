/** This page as a member of a swarm: in or out, what it contributes, what it sees. What does it is fetched when a swarm is entered. */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import type { Swarm, SwarmView } from "@shoal/web/swarm";
import type { ChatBackend } from "../backend.ts";
import { EMBEDDED } from "../modelState.ts";

export type SwarmPhase =
  | { readonly name: "out" }
  | { readonly name: "entering" }
  | { readonly name: "in"; readonly swarm: Swarm }
  | { readonly name: "failed"; readonly message: string };

/** Between two looks while somebody watches. */
const LOOK_MS = 1000;
const MAX_GB = 1024;
const IN_ADDRESS = "#invite=";

/** The invite with which the page was opened. It is a key: it does not stay in the address, where histories and screenshots would keep it. */
export function takeInviteFromAddress(): string | null {
  if (!location.hash.startsWith(IN_ADDRESS)) return null;
  const invite = decodeURIComponent(location.hash.slice(IN_ADDRESS.length));
  history.replaceState(null, "", location.pathname + location.search);
  return invite;
}

export class SwarmState {
  /** As it is typed, or came with the address. */
  readonly invite = signal("");
  readonly phase = signal<SwarmPhase>({ name: "out" });
  readonly view = signal<SwarmView | null>(null);
  /** Memory to lend, in GB, as it is typed. */
  readonly gigabytes = signal("4");
  /** What went wrong with contributing. */
  readonly problem = signal<string | null>(null);
  readonly backend: ReadonlySignal<ChatBackend | null> = computed(() =>
    this.phase.value.name === "in" ? { chat: this.phase.value.swarm.chat, destination: "the peers of a swarm, which can read it" } : null,
  );
  #entering: AbortController | undefined;

  /** What failed is in `phase`. */
  async enter(invite: string): Promise<void> {
    await this.leave();
    const entering = new AbortController();
    this.#entering = entering;
    this.invite.value = invite;
    this.phase.value = { name: "entering" };
    try {
      const { Swarm: Member } = await import("@shoal/web/swarm");
      const swarm = await Member.enter({ invite, addresses: [EMBEDDED.url] }, entering.signal);
      this.phase.value = { name: "in", swarm };
      await this.look();
    } catch (error) {
      if (!entering.signal.aborted) this.phase.value = { name: "failed", message: error instanceof Error ? error.message : String(error) };
    }
  }

  /** What may be lent by what is typed; undefined where that is no sensible number. */
  get memoryBytes(): number | undefined {
    const bytes = Number(this.gigabytes.value) * 1e9;
    return bytes > 0 && bytes <= MAX_GB * 1e9 ? bytes : undefined;
  }

  /** Lends this device's GPU to the others. */
  async contribute(): Promise<void> {
    const { value: phase } = this.phase;
    const { memoryBytes } = this;
    if (phase.name !== "in" || memoryBytes === undefined) return;
    this.problem.value = null;
    const contributing = phase.swarm.contribute({ memoryBytes });
    await this.look();
    try {
      await contributing;
    } catch (error) {
      if (this.phase.value === phase && this.view.value?.contribution?.phase.name !== "leaving")
        this.problem.value = error instanceof Error ? error.message : String(error);
    }
    await this.look();
  }

  async stopContributing(): Promise<void> {
    const { value: phase } = this.phase;
    if (phase.name !== "in") return;
    const stopping = phase.swarm.stopContributing();
    await this.look();
    await stopping;
    await this.look();
  }

  async leave(): Promise<void> {
    const { value: phase } = this.phase;
    this.#entering?.abort(new Error("Cannot go on: the swarm was left"));
    this.#entering = undefined;
    this.phase.value = { name: "out" };
    this.view.value = null;
    this.problem.value = null;
    if (phase.name === "in") await phase.swarm.close();
  }

  async look(): Promise<void> {
    const { value: phase } = this.phase;
    if (phase.name !== "in") return;
    try {
      const view = await phase.swarm.view();
      if (this.phase.value === phase) this.view.value = view;
    } catch (error) {
      if (this.phase.value === phase)
        this.phase.value = { name: "failed", message: error instanceof Error ? error.message : String(error) };
    }
  }

  /** @returns what ends it */
  watch(): () => void {
    void this.look();
    const timer = setInterval(() => void this.look(), LOOK_MS);
    return () => clearInterval(timer);
  }
}
