/**
 * A conversation over a bad network: 2 % of packets lost on the way between two hosts, round trips of 50 ms with up to 20 ms of jitter; and the same without loss and jitter, for how
 * much slower it was.
 */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { newIdentity } from "../src/control/identity.ts";
import { inviteToText, newInvite } from "../src/control/invite.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { TOKENS, promptOf } from "./hosts/churnPrompts.ts";
import { type HostOptions, Netlab } from "./netlab/netlab.ts";
import { MODEL } from "./swarmFixture.ts";

const script = fileURLToPath(new URL("./hosts/churnHost.ts", import.meta.url));
/** A quarter of a round trip each way; two cables make a way. */
const SOUND = { delayMs: 12.5 } as const;
const BAD = { ...SOUND, delayMs: 10, jitterMs: 5, lossPermille: 10 } as const;
const ANSWERS = 10;
const LIMIT_MS = 120_000;

interface Line {
  readonly turn?: number;
  readonly ids?: readonly number[];
  readonly failed?: string;
}

export const LOSSY_NETWORK: GpuTest = {
  name: "2 % loss and 50 ms of jittered latency: every answer is what one device gives",
  run: async () => {
    const badMs = await tokenMs(BAD, ANSWERS);
    const soundMs = await tokenMs(SOUND, ANSWERS);
    console.log(
      `# ${badMs.toFixed(0)} ms a token over two peers, ${soundMs.toFixed(0)} without loss: ${(badMs / soundMs).toFixed(2)} times`,
    );
  },
};

/** Of one client's answers over two peers, each of which is checked. */
async function tokenMs(cable: Omit<HostOptions, "name">, answers: number): Promise<number> {
  const lab = await Netlab.up(["relay", "a", "b", "client"].map((name) => ({ name, ...cable })));
  try {
    const start = (host: string, ...args: readonly string[]): AsyncIterator<string> => {
      const child = lab.spawn(host, [Deno.execPath(), "run", "-A", "--quiet", script, ...args]);
      child.stderr?.on("data", (chunk: Uint8Array) => Deno.stderr.writeSync(chunk));
      if (!child.stdout) throw new Error("There is no output");
      return createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    };
    const next = async (lines: AsyncIterator<string>): Promise<string> => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`Nothing came for ${LIMIT_MS} ms`)), LIMIT_MS);
      });
      const { value, done } = await Promise.race([lines.next(), late]).finally(() => clearTimeout(timer));
      if (done === true) throw new Error("A process ended");
      return value;
    };
    const relays = [await next(start("relay", "relay", lab.address("relay")))];
    const invite = inviteToText(await newInvite(await newIdentity(), { relays, manifestDigest: MODEL, modelName: "fake" }));
    await Promise.all([next(start("a", "peer", invite, "0", "3")), next(start("b", "peer", invite, "3", "6"))]);
    const client = start("client", "clients", invite, "1");
    let began = Number.NaN;
    for (let got = 0; got <= answers;) {
      const { turn, ids, failed } = JSON.parse(await next(client)) as Line;
      assert.equal(failed, undefined);
      if (!ids || turn === undefined) continue;
      assert.deepEqual(ids, await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), promptOf(turn), TOKENS));
      // From the end of the first on: that one had to connect.
      if (got++ === 0) began = performance.now();
    }
    return (performance.now() - began) / (answers * (TOKENS + 1));
  } finally {
    lab.down();
  }
}
