/**
 * Peers killed (SIGKILL) and added while eight clients ask, between hosts of a network lab 20 ms apart: real processes, libp2p and WebRTC; only the model's arithmetic is small.
 * SHOAL_LONG=1: five minutes, an event every 20 s; peers with other faults; and a conversation over a network that loses packets.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { newIdentity } from "../src/control/identity.ts";
import { inviteToText, newInvite } from "../src/control/invite.ts";
import type { LayerRange } from "../src/plan/range.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { PROMPTS, TOKENS, promptOf } from "./hosts/churnPrompts.ts";
import { FAULTS } from "./faults.ts";
import { LIAR } from "./liar.ts";
import { LOSSY_NETWORK } from "./lossyNetwork.ts";
import { Netlab } from "./netlab/netlab.ts";
import { MODEL } from "./swarmFixture.ts";

const script = fileURLToPath(new URL("./hosts/churnHost.ts", import.meta.url));
const CLIENTS = 8;
const RANGES = [
  { begin: 0, end: 3 },
  { begin: 3, end: 6 },
] as const;
const HOSTS = ["a", "b", "c", "d", "e"];
/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
const LIMIT_MS = 300_000;

interface Line {
  readonly client: number;
  readonly turn?: number;
  readonly ids?: readonly number[];
  readonly path?: readonly string[];
  readonly stallMs?: number;
  readonly failed?: string;
}

interface Peer {
  readonly host: string;
  readonly layers: LayerRange;
  readonly child: ChildProcess;
  /** Its name, when it serves. */
  readonly id: Promise<string>;
}

export function tests(): readonly GpuTest[] {
  const long = Deno.env.get("SHOAL_LONG") === "1";
  const [everyMs, forMs] = long ? [20_000, 300_000] : [8000, 16_000];
  return [
    {
      name: `peers are killed or added every ${everyMs / 1000} s for ${forMs / 1000} s while eight clients ask: no answer is lost or altered`,
      run: async () => {
        const lab = await Netlab.up(["relay", ...HOSTS, "client"].map((name) => ({ name, ...CABLE })));
        try {
          await churn(lab, everyMs, forMs, long);
        } finally {
          lab.down();
        }
      },
    },
    ...(long ? [FAULTS, LIAR, LOSSY_NETWORK] : []),
  ];
}

async function churn(lab: Netlab, everyMs: number, forMs: number, long: boolean): Promise<void> {
  const start = (host: string, ...args: readonly string[]): ChildProcess => {
    const child = lab.spawn(host, [Deno.execPath(), "run", "-A", "--quiet", script, ...args]);
    child.stderr?.on("data", (chunk: Uint8Array) => Deno.stderr.writeSync(chunk));
    return child;
  };
  const relay = start("relay", "relay", lab.address("relay"));
  const about = { relays: [await firstLine(relay)], manifestDigest: MODEL, modelName: "fake" };
  const invite = inviteToText(await newInvite(await newIdentity(), about));
  const free = [...HOSTS];
  const peers: Peer[] = [];
  /** @returns whether there was a host for it */
  const add = (): boolean => {
    const host = free.shift();
    const holders = (layers: LayerRange): number => peers.filter((peer) => peer.layers === layers).length;
    const [layers] = [...RANGES].sort((one, other) => holders(one) - holders(other));
    if (host === undefined || !layers) return false;
    const child = start(host, "peer", invite, String(layers.begin), String(layers.end));
    const peer = { host, layers, child, id: firstLine(child) };
    peers.push(peer);
    return true;
  };
  for (let i = 0; i < 2 * RANGES.length; i++) add();
  await Promise.all(peers.map(({ id }) => id));

  const clients = start("client", "clients", invite, String(CLIENTS));
  const lines: Line[] = [];
  const state = { asked: false };
  const ended = new Promise<void>((resolve) =>
    clients.on("exit", (code, signal) => {
      if (!state.asked) lines.push({ client: -1, failed: `their process ended with ${code ?? signal}` });
      resolve();
    }),
  );
  if (clients.stdout) createInterface({ input: clients.stdout }).on("line", (line) => lines.push(JSON.parse(line) as Line));
  const answers = (client: number): number => lines.filter((line) => line.client === client && line.ids).length;
  const allHave = (count: number): boolean => Array.from({ length: CLIENTS }, (_, client) => answers(client)).every((n) => n >= count);
  await until("an answer to every client", () => allHave(1), lines);

  const began = performance.now();
  const lasting = new Map<string, ChildProcess>([
    ["relay", relay],
    ["clients", clients],
  ]);
  let early: Readonly<Record<string, number>> = {};
  let kills = 0;
  let added = 0;
  for (let event = 0; performance.now() - began < forMs; event++) {
    if (event % 2 === 1) added += add() ? 1 : 0;
    else kills += (await killOne(peers, free, lines)) ? 1 : 0;
    await Promise.race([pause(everyMs), ended]);
    checkFailures(lines);
    if (performance.now() - began >= forMs / 3 && !("relay" in early)) early = residentBytes(lasting);
  }
  const late = residentBytes(lasting);
  const before = Array.from({ length: CLIENTS }, (_, client) => answers(client));
  // Each finishes what it is at, and one more after the last kill.
  await until("an answer after the last kill", () => before.every((count, client) => answers(client) > count), lines);
  state.asked = true;
  clients.stdin?.end();
  await Promise.race([ended, pause(LIMIT_MS)]);

  const expected = await Promise.all(
    Array.from({ length: PROMPTS }, (_, prompt) => answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(prompt), TOKENS)),
  );
  const given = lines.filter(({ ids }) => ids);
  for (const { turn = 0, ids } of given) assert.deepEqual(ids, expected[turn % PROMPTS]);
  checkFailures(lines);
  const stalls = lines.flatMap(({ stallMs }) => stallMs ?? []).sort((a, b) => a - b);
  const memory = Object.keys(late).map((name) => `${name} ${mib(early[name])} to ${mib(late[name])} MiB`);
  console.log(
    `# ${given.length} answers, ${kills} kills, ${added} added; waits of ${stalls.join(", ")} ms, median ${stalls[stalls.length >> 1] ?? 0}; ${memory.join(", ")}`,
  );
  assert.ok(kills > 0 && stalls.length > 0, "nobody who was used was killed");
  if (long)
    for (const [name, bytes] of Object.entries(late))
      assert.ok(bytes < 1.25 * (early[name] ?? 0) + 2 ** 25, `${name} grows: ${memory.join(", ")}`);
}

/** Somebody whom clients use, and whose layers somebody else has too: nobody could make up for the only one. */
async function killOne(peers: Peer[], free: string[], lines: readonly Line[]): Promise<boolean> {
  const spare = peers.filter((peer) => peers.some((other) => other !== peer && other.layers === peer.layers));
  const lately = lines.slice(-2 * CLIENTS).flatMap(({ path = [] }) => path);
  const counted = await Promise.all(
    spare.map(async (peer) => {
      const name = await peer.id;
      return { peer, uses: lately.filter((other) => other === name).length };
    }),
  );
  const [victim] = counted.sort((a, b) => b.uses - a.uses);
  if (!victim) return false;
  victim.peer.child.kill("SIGKILL");
  peers.splice(peers.indexOf(victim.peer), 1);
  free.push(victim.peer.host);
  return true;
}

/** `ip netns exec` becomes the command that it is given: the process is the command's. */
function residentBytes(processes: ReadonlyMap<string, ChildProcess>): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...processes].map(([name, { pid }]) => {
      const [, kib = "0"] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid ?? 0}/status`, "utf8")) ?? [];
      return [name, Number(kib) * 1024];
    }),
  );
}

function mib(bytes = 0): number {
  return Math.round(bytes / 2 ** 20);
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    if (child.stdout) createInterface({ input: child.stdout }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`A process ended with ${code} before it had said anything`)));
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function checkFailures(lines: readonly Line[]): void {
  assert.deepEqual(
    lines.filter(({ failed }) => failed !== undefined),
    [],
  );
}

async function until(what: string, holds: () => boolean, lines: readonly Line[]): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!holds()) {
    const told = (): string =>
      lines
        .filter(({ ids }) => !ids)
        .map((line) => JSON.stringify(line))
        .join("\n");
    if (performance.now() > end || lines.some(({ failed }) => failed !== undefined)) throw new Error(`There is not ${what}:\n${told()}`);
    await pause(50);
  }
}
