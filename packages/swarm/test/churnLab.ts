/** Processes of hosts/churnHost.ts on the hosts of a network lab: a relay, peers and clients of a swarm of its own. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { newIdentity } from "../src/control/identity.ts";
import { inviteToText, newInvite } from "../src/control/invite.ts";
import type { LayerRange } from "../src/plan/range.ts";
import { type HostOptions, Netlab } from "./netlab/netlab.ts";
import { MODEL } from "./swarmFixture.ts";

const script = fileURLToPath(new URL("./hosts/churnHost.ts", import.meta.url));
const LIMIT_MS = 120_000;

export interface ChurnPeer {
  readonly host: string;
  readonly child: ChildProcess;
  readonly id: string;
}

/** A client's output: an answer, a peer that was replaced or banned, or why it cannot go on. */
export interface ChurnLine {
  readonly turn?: number;
  readonly ids?: readonly number[];
  readonly path?: readonly string[];
  readonly peer?: string;
  readonly fault?: string;
  readonly liar?: string;
  readonly failed?: string;
}

export class ChurnLab {
  readonly net: Netlab;
  #invite = "";

  private constructor(net: Netlab) {
    this.net = net;
  }

  /** With a relay on the host of that name. */
  static async up(hosts: readonly string[], cable: Omit<HostOptions, "name">): Promise<ChurnLab> {
    const lab = new ChurnLab(await Netlab.up(["relay", ...hosts].map((name) => ({ name, ...cable }))));
    try {
      const relays = [await next(lab.#start("relay", "relay", lab.net.address("relay")).lines)];
      lab.#invite = inviteToText(await newInvite(await newIdentity(), { relays, manifestDigest: MODEL, modelName: "fake" }));
      return lab;
    } catch (error) {
      lab.down();
      throw error;
    }
  }

  /** Resolves when it serves. */
  async peer(host: string, { begin, end }: LayerRange): Promise<ChurnPeer> {
    const { child, lines } = this.#start(host, "peer", this.#invite, String(begin), String(end));
    return { host, child, id: await next(lines) };
  }

  /** Asks one thing after the other until `stop`. @param auditShare of its steps that are computed again elsewhere; the default where absent */
  client(host: string, auditShare?: number): { readonly next: () => Promise<ChurnLine>; readonly stop: () => void } {
    const more = auditShare === undefined ? [] : [String(auditShare)];
    const { child, lines } = this.#start(host, "clients", this.#invite, "1", ...more);
    return { next: async () => JSON.parse(await next(lines)) as ChurnLine, stop: () => child.stdin?.end() };
  }

  down(): void {
    this.net.down();
  }

  #start(host: string, ...args: readonly string[]): { readonly child: ChildProcess; readonly lines: AsyncIterator<string> } {
    const child = this.net.spawn(host, [Deno.execPath(), "run", "-A", "--quiet", script, ...args]);
    child.stderr?.on("data", (chunk: Uint8Array) => Deno.stderr.writeSync(chunk));
    if (!child.stdout) throw new Error("There is no output");
    return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
  }
}

async function next(lines: AsyncIterator<string>): Promise<string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Nothing came for ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  const { value, done } = await Promise.race([lines.next(), late]).finally(() => clearTimeout(timer));
  if (done === true) throw new Error("A process ended");
  return value;
}
