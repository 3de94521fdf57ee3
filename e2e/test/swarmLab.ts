/** A swarm on the hosts of a network lab: a relay, peers in Deno, and browsers that each have a host of their own with the chat page on its localhost. */
import type { ChildProcess } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type BrowserContext, type Page, chromium } from "playwright/test";
import { Netlab } from "../../packages/swarm/test/netlab/netlab.ts";
import { CHROMIUM_FLAGS, CHROMIUM_PATH } from "../playwright.config.ts";

const LIMIT_MS = 120_000;
const deno = fileURLToPath(new URL("../../node_modules/deno/deno", import.meta.url));
const runner = fileURLToPath(new URL("../../apps/runner/src/main.ts", import.meta.url));
const siteHost = fileURLToPath(new URL("../siteHost.ts", import.meta.url));

export class SwarmLab {
  readonly #lab: Netlab;
  readonly #folder: string;
  readonly #site: string;
  readonly #contexts: BrowserContext[] = [];

  private constructor(lab: Netlab, folder: string, site: string) {
    this.#lab = lab;
    this.#folder = folder;
    this.#site = site;
  }

  /** @param site the folder of the page */
  static async up(hosts: readonly string[], site: string): Promise<SwarmLab> {
    const folder = await mkdtemp(path.join(tmpdir(), "shoal-browsers-"));
    return new SwarmLab(await Netlab.up(hosts.map((name) => ({ name }))), folder, site);
  }

  /** A relay on a host, and a swarm of the embedded model made there. @returns the invite */
  async create(host: string): Promise<string> {
    const relay = this.#shoal(host, ["relay", "--host", this.#lab.address(host)]);
    const address = (await until(relay, /.*\/p2p\/\w+\n/)).trim();
    return (await this.run(host, ["swarm", "create", "--relay", address])).trim();
  }

  /** `shoal` on a host, to its end. @returns what it printed */
  async run(host: string, args: readonly string[]): Promise<string> {
    const child = this.#shoal(host, args);
    const [text, code] = await Promise.all([read(child), new Promise<number | null>((resolve) => child.on("exit", resolve))]);
    if (code !== 0) throw new Error(`'shoal ${args.join(" ").slice(0, 60)}' ended with ${code}`);
    return text;
  }

  /** A peer in Deno. Resolves when it serves, with what it says. */
  async join(host: string, args: readonly string[]): Promise<string> {
    return until(this.#shoal(host, ["join", ...args]), /Serving layers .*\n/);
  }

  /** A browser on a host, with the page's address there. */
  async browser(host: string): Promise<{ readonly context: BrowserContext; readonly page: Page; readonly url: string }> {
    const url = (await until(this.#lab.spawn(host, [deno, "run", "--quiet", "-A", siteHost, this.#site]), /http.*\n/)).trim();
    const launcher = path.join(this.#folder, `${host}.sh`);
    await writeFile(launcher, `#!/bin/sh\nexec ${this.#lab.prefix(host).join(" ")} '${CHROMIUM_PATH}' "$@"\n`);
    await chmod(launcher, 0o755);
    const context = await chromium.launchPersistentContext(path.join(this.#folder, `profile-${host}`), {
      executablePath: launcher,
      args: [...CHROMIUM_FLAGS],
    });
    this.#contexts.push(context);
    return { context, page: context.pages()[0] ?? (await context.newPage()), url };
  }

  async down(): Promise<void> {
    await Promise.all(this.#contexts.map((context) => context.close().catch(() => {})));
    this.#lab.down();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Each host has a cache of its own, as machines do. */
  #shoal(host: string, args: readonly string[]): ChildProcess {
    const env = { NO_COLOR: "1", SHOAL_CACHE_DIR: path.join(this.#folder, `cache-${host}`) };
    const child = this.#lab.spawn(host, [deno, "run", "--quiet", "-A", runner, ...args], { env });
    child.stderr?.on("data", (text: Buffer) => {
      if (process.env["SHOAL_VERBOSE"] !== undefined) console.error(`# ${host}: ${text.toString().trimEnd()}`);
    });
    return child;
  }
}

function until(child: ChildProcess, wanted: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const fail = (why: string): void => reject(new Error(`A program of the swarm ${why} before ${String(wanted)}:\n${text}`));
    const timer = setTimeout(() => fail("took too long"), LIMIT_MS);
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = wanted.exec(text);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[0]);
    });
    child.on("exit", () => {
      clearTimeout(timer);
      fail("ended");
    });
  });
}

async function read(child: ChildProcess): Promise<string> {
  let text = "";
  for await (const chunk of child.stdout ?? []) text += String(chunk);
  return text;
}
