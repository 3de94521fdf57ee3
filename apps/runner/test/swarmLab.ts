/** A swarm of `shoal` processes on the hosts of a network lab. */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type HostOptions, Netlab } from "../../../packages/swarm/test/netlab/netlab.ts";

const entry = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const siteHost = fileURLToPath(new URL("../../../e2e/siteHost.ts", import.meta.url));
const LIMIT_MS = 120_000;

export interface Running {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Resolves with the output so far, when it holds this. */
  until(text: string | RegExp): Promise<string>;
  /** The same of what it says on its standard error. */
  untilSaid(text: string | RegExp): Promise<string>;
  readonly ended: Promise<number | null>;
}

export class SwarmLab {
  readonly lab: Netlab;
  readonly #caches: string;

  private constructor(lab: Netlab, caches: string) {
    this.lab = lab;
    this.#caches = caches;
  }

  static async up(hosts: readonly HostOptions[]): Promise<SwarmLab> {
    return new SwarmLab(await Netlab.up(hosts), mkdtempSync(join(tmpdir(), "shoal-swarm-")));
  }

  /** Each host has a cache of its own, as machines do. */
  start(host: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
    const child = this.lab.spawn(host, [Deno.execPath(), "run", "--quiet", "-A", entry, ...args], {
      env: { NO_COLOR: "1", SHOAL_CACHE_DIR: join(this.#caches, host), ...env },
    });
    let out = "";
    let err = "";
    const listeners = new Set<() => void>();
    const hear = (): void => {
      for (const listener of listeners) listener();
    };
    child.stdout?.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      hear();
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      err += chunk.toString();
      hear();
    });
    const until = (heard: () => string, text: string | RegExp): Promise<string> =>
      new Promise((resolve, reject) => {
        const fail = (why: string) =>
          reject(new Error(`'${args.join(" ").slice(0, 60)}' on '${host}' ${why} before ${text}:\n${out}\n${err}`));
        const timer = setTimeout(() => fail("took too long"), LIMIT_MS);
        const look = (): void => {
          if (!(typeof text === "string" ? heard().includes(text) : text.test(heard()))) return;
          clearTimeout(timer);
          listeners.delete(look);
          resolve(heard());
        };
        listeners.add(look);
        void ended.then(() => {
          look();
          clearTimeout(timer);
          fail("ended");
        });
        look();
      });
    const ended = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)));
    return {
      child,
      stdout: () => out,
      stderr: () => err,
      ended,
      until: (text) => until(() => out, text),
      untilSaid: (text) => until(() => err, text),
    };
  }

  /** Runs to its end. @throws where it fails */
  async run(host: string, args: readonly string[]): Promise<string> {
    const running = this.start(host, args);
    const timer = setTimeout(() => running.child.kill("SIGKILL"), LIMIT_MS);
    const code = await running.ended;
    clearTimeout(timer);
    if (code !== 0)
      throw new Error(`'${args.join(" ").slice(0, 60)}' on '${host}' ended with ${code}:\n${running.stdout()}\n${running.stderr()}`);
    return running.stdout();
  }

  /** A relay on a host, and a swarm made there. @returns the invite */
  async create(host: string): Promise<{ readonly relay: Running; readonly invite: string }> {
    const relay = this.start(host, ["relay", "--host", this.lab.address(host)]);
    const address = (await relay.until("/p2p/")).trim();
    return { relay, invite: (await this.run(host, ["swarm", "create", "--relay", address])).trim() };
  }

  /** What a host has in its cache directory. */
  cache(host: string): string {
    return join(this.#caches, host);
  }

  /** A folder on a web server of the host's own. @returns its address, for programs on that host */
  async serve(host: string, folder: string): Promise<string> {
    const server = this.lab.spawn(host, [Deno.execPath(), "run", "--quiet", "-A", siteHost, folder]);
    return new Promise((resolve, reject) => {
      server.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString().trim()));
      server.once("exit", (code) => reject(new Error(`The web server on '${host}' ended with ${code}`)));
    });
  }

  down(): void {
    this.lab.down();
    rmSync(this.#caches, { recursive: true, force: true });
  }
}
