/**
 * Several hosts on one machine, for tests that open WebRTC: ICE binds every interface it finds, so those run where there are none but the test's own. Each host is a network
 * namespace with a TAP device; `switch.c` carries frames between them with delay, loss and a rate. Needs Linux, root, gcc and iproute2.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export interface HostOptions {
  readonly name: string;
  /** Of this host's cable, one way: a round trip between two hosts is twice the sum of theirs. */
  readonly delayMs?: number;
  /** Up to so much more, different for each frame. */
  readonly jitterMs?: number;
  readonly lossPermille?: number;
  readonly rateKbit?: number;
}

/** Why this machine has no such lab, or undefined where it has. */
export function netlabProblem(): string | undefined {
  if (process.platform !== "linux") return `network namespaces need Linux, and this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [tool, flag] of [
    ["ip", "-V"],
    ["gcc", "--version"],
    ["unshare", "--version"],
  ] as const)
    if (spawnSync(tool, [flag]).status !== 0) return `'${tool}' is not installed`;
  if (!existsSync("/dev/net/tun")) return "/dev/net/tun does not exist";
  const tried = spawnSync("unshare", ["-n", "true"]);
  return tried.status === 0 ? undefined : `a network namespace cannot be made: ${String(tried.stderr).trim()}`;
}

export class Netlab {
  readonly #namespaces: string[];
  readonly #names: readonly string[];
  readonly #switch: ChildProcess;
  readonly #children = new Set<ChildProcess>();

  private constructor(namespaces: string[], names: readonly string[], carrier: ChildProcess) {
    this.#namespaces = namespaces;
    this.#names = names;
    this.#switch = carrier;
  }

  /** @throws Error where the machine cannot: a test that needs it fails there */
  static async up(hosts: readonly HostOptions[]): Promise<Netlab> {
    const problem = netlabProblem();
    if (problem !== undefined) throw new Error(`Cannot make a network of hosts: ${problem}`);
    const carrier = compileSwitch();
    const made: string[] = [];
    try {
      const lab = `shoal${process.pid.toString(36)}${Math.floor(Math.random() * 46_656).toString(36)}`;
      const specs: string[] = [];
      for (const { name, delayMs = 0, jitterMs = 0, lossPermille = 0, rateKbit = 0 } of hosts) {
        const namespace = `${lab}-${name}`;
        ip("netns", "add", namespace);
        made.push(namespace);
        ip("-n", namespace, "link", "set", "lo", "up");
        specs.push([namespace, Math.round(delayMs * 1000), lossPermille, rateKbit, Math.round(jitterMs * 1000)].join(":"));
      }
      const child = spawn(carrier, specs, { stdio: ["ignore", "pipe", "inherit"] });
      await ready(child);
      for (const [index, namespace] of made.entries()) {
        ip("-n", namespace, "addr", "add", `${address(index)}/24`, "dev", "lab0");
        ip("-n", namespace, "link", "set", "lab0", "up");
        // Chromium offers no candidates without one.
        ip("-n", namespace, "route", "add", "default", "via", "10.77.0.254", "dev", "lab0");
      }
      return new Netlab(
        made,
        hosts.map(({ name }) => name),
        child,
      );
    } catch (error) {
      for (const namespace of made) spawnSync("ip", ["netns", "del", namespace]);
      throw error;
    }
  }

  address(name: string): string {
    return address(this.#index(name));
  }

  /** What goes before a command that is to run on a host. */
  prefix(name: string): readonly string[] {
    return ["ip", "netns", "exec", this.#namespaces[this.#index(name)] ?? ""];
  }

  /** Starts a command on a host. */
  spawn(
    name: string,
    command: readonly string[],
    options: { readonly env?: Record<string, string>; readonly cwd?: string } = {},
  ): ChildProcess {
    const [program = "", ...args] = [...this.prefix(name), ...command];
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...options.env },
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    this.#children.add(child);
    child.on("exit", () => this.#children.delete(child));
    return child;
  }

  /** Takes a host's cable out, or puts it back in. */
  plug(name: string, connected: boolean): void {
    ip("-n", this.#namespaces[this.#index(name)] ?? "", "link", "set", "lab0", connected ? "up" : "down");
    if (connected)
      spawnSync("ip", ["-n", this.#namespaces[this.#index(name)] ?? "", "route", "add", "default", "via", "10.77.0.254", "dev", "lab0"]);
  }

  down(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    this.#switch.kill("SIGKILL");
    for (const namespace of this.#namespaces.splice(0)) spawnSync("ip", ["netns", "del", namespace]);
  }

  #index(name: string): number {
    const index = this.#names.indexOf(name);
    if (index < 0) throw new Error(`Cannot find the host '${name}', expected ${this.#names.join(", ")}`);
    return index;
  }
}

function address(index: number): string {
  return `10.77.0.${index + 1}`;
}

function ip(...args: readonly string[]): void {
  const result = spawnSync("ip", [...args]);
  if (result.status !== 0) throw new Error(`Cannot run 'ip ${args.join(" ")}': ${String(result.stderr).trim()}`);
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.on("data", (text: Buffer) => {
      if (text.includes("ready")) resolve();
    });
    child.on("exit", (code) => reject(new Error(`Cannot start the switch: it ended with ${code}`)));
    child.on("error", reject);
  });
}

/** Once a version: the program's name holds the digest of its source. */
function compileSwitch(): string {
  const source = fileURLToPath(new URL("./switch.c", import.meta.url));
  const digest = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16);
  const folder = path.join(tmpdir(), "shoal-netlab");
  const program = path.join(folder, `switch-${digest}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  const partial = `${program}.${process.pid}`;
  const result = spawnSync("gcc", ["-O2", "-Wall", "-Werror", "-o", partial, source]);
  if (result.status !== 0) throw new Error(`Cannot compile ${source}: ${String(result.stderr)}`);
  renameSync(partial, program);
  return program;
}
