/**
 * Peers that are cut off, stall without dying, or answer nonsense, while somebody asks, between hosts of a network lab 20 ms apart: real processes, libp2p and WebRTC; only the model's
 * arithmetic is small. Every answer is what one device gives.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { newIdentity } from "../src/control/identity.ts";
import { inviteToText, newInvite } from "../src/control/invite.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { TOKENS, promptOf } from "./hosts/churnPrompts.ts";
import { Netlab } from "./netlab/netlab.ts";
import { MODEL } from "./swarmFixture.ts";

const script = fileURLToPath(new URL("./hosts/churnHost.ts", import.meta.url));
/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
const HOSTS = ["a", "b", "c", "d"] as const;
const LIMIT_MS = 120_000;

interface Line {
  readonly turn?: number;
  readonly ids?: readonly number[];
  readonly path?: readonly string[];
  readonly peer?: string;
  readonly fault?: string;
  readonly failed?: string;
}

export const FAULTS: GpuTest = {
  name: "a peer that is cut off, one that stalls and one that answers nonsense are replaced by name, and no answer is altered",
  run: async () => {
    const lab = await Netlab.up(["relay", ...HOSTS, "client"].map((name) => ({ name, ...CABLE })));
    try {
      await askThroughFaults(lab);
    } finally {
      lab.down();
    }
  },
};

async function askThroughFaults(lab: Netlab): Promise<void> {
  const start = (host: string, ...args: readonly string[]) => {
    const child = lab.spawn(host, [Deno.execPath(), "run", "-A", "--quiet", script, ...args]);
    child.stderr?.on("data", (chunk: Uint8Array) => Deno.stderr.writeSync(chunk));
    return { child, lines: linesOf(child) };
  };
  const relays = [await next(start("relay", "relay", lab.address("relay")).lines)];
  const invite = inviteToText(await newInvite(await newIdentity(), { relays, manifestDigest: MODEL, modelName: "fake" }));
  const whole = String(FAKE.nLayers);
  const peers = await Promise.all(
    HOSTS.map(async (host) => {
      const { child, lines } = start(host, "peer", invite, "0", whole);
      return { host, child, id: await next(lines) };
    }),
  );
  const client = start("client", "clients", invite, "1");
  /** Reads on until an answer is there whose path is none but these peers. @returns that peer, and what was replaced until then */
  const answered = async (but: readonly string[]) => {
    const faults: Line[] = [];
    for (;;) {
      const line = JSON.parse(await next(client.lines)) as Line;
      assert.equal(line.failed, undefined);
      if (line.fault !== undefined) faults.push(line);
      const { turn, ids, path } = line;
      if (turn === undefined || !ids || !path) continue;
      assert.deepEqual(ids, await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(turn), TOKENS));
      const used = peers.find(({ id }) => path.length === 1 && path[0] === id);
      if (used && !but.includes(used.id)) return { used, faults };
    }
  };
  const gone: string[] = [];
  let { used } = await answered([]);
  for (const [what, fault] of [
    ["cut off", "lost"],
    ["stalls", "stalled"],
    ["nan", "lied"],
  ] as const) {
    if (what === "cut off") lab.plug(used.host, false);
    else used.child.stdin?.write(`${what}\n`);
    gone.push(used.id);
    const then = await answered(gone);
    assert.deepEqual(
      then.faults.filter(({ peer }) => peer === used.id).map((line) => line.fault),
      [fault],
      `${what}: ${JSON.stringify(then.faults)}`,
    );
    ({ used } = then);
  }
  client.child.stdin?.end();
}

function linesOf({ stdout }: ChildProcess): AsyncIterator<string> {
  if (!stdout) throw new Error("There is no output");
  return createInterface({ input: stdout })[Symbol.asyncIterator]();
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
