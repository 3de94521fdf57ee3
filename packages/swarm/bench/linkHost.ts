/**
 * One end of a link, for `bench/link.ts`: signals come and go as lines of JSON on standard input and output. The far end echoes; the near end measures and prints what it found.
 *
 *     linkHost.ts near|far LANES ROUNDS
 */
import { createInterface } from "node:readline";
import process from "node:process";
import { SILENCE_MS, StripedLink } from "../src/link/stripedLink.ts";
import { denoPeerConnection } from "../src/link/rtc.deno.ts";
import { RtcNegotiator, type Signal } from "../src/link/rtcNegotiator.ts";

const [role, lanes = "4", rounds = "100"] = Deno.args;
/** A token's hidden state of the 671B model as f16, and a header. */
const HOP_BYTES = 7168 * 2 + 64;
const BULK_BYTES = 2 ** 20;
/** Of bulk, the most of both: a lossy link carries a hundredth of what a sound one does. */
const BULK_MESSAGES = 64;
const BULK_MS = 8000;

const link = new StripedLink({ remote: role === "near" ? "far" : "near", silenceMs: 4 * SILENCE_MS });
const opened = Promise.withResolvers<void>();
const negotiator: RtcNegotiator = new RtcNegotiator(
  { PeerConnection: denoPeerConnection() },
  {
    send: (signal) => console.log(JSON.stringify({ signal })),
    lane: (lane) => {
      link.addLane(lane);
      if (link.lanes === Number(lanes)) opened.resolve();
    },
    failure: () => {
      console.error(`A lane could not be made: ${link.lanes} of ${lanes} are there, another is tried`);
      if (role === "near") void negotiator.offer();
    },
  },
);
createInterface({ input: process.stdin }).on("line", (line) => void negotiator.take(JSON.parse(line) as Signal));

if (role === "far") {
  link.listen((message) => {
    // Bulk is only taken.
    if (message.byteLength !== BULK_BYTES) void link.send(message).catch(() => {});
  });
  await link.closed;
  Deno.exit(0);
}

for (let i = 0; i < Number(lanes); i++) void negotiator.offer();
await opened.promise;
let arrived = (): void => {};
link.listen(() => arrived());
const next = (): Promise<void> => new Promise((resolve) => (arrived = resolve));

async function roundTrips(bytes: number, count: number): Promise<readonly number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    const answer = next();
    await link.send(new Uint8Array(bytes));
    await answer;
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b);
}

const small = await roundTrips(64, 20);
const hop = await roundTrips(HOP_BYTES, Number(rounds));
const begin = performance.now();
let messages = 0;
for (; messages < BULK_MESSAGES && performance.now() - begin < BULK_MS; messages++) await link.send(new Uint8Array(BULK_BYTES));
// Messages arrive in order: the answer to this one says that all before it are there.
const done = next();
await link.send(new Uint8Array(1));
await done;
const seconds = (performance.now() - begin) / 1000;
const at = (times: readonly number[], share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
console.log(
  JSON.stringify({
    result: {
      lanes: Number(lanes),
      rttMs: at(small, 0.5),
      hopMs: at(hop, 0.5),
      hop95Ms: at(hop, 0.95),
      hopOverRtt: at(hop, 0.5) / at(small, 0.5),
      bulkMBs: (messages * BULK_BYTES) / 1e6 / seconds,
      resent: link.stats().resent,
      lanesLeft: link.lanes,
    },
  }),
);
link.close();
setTimeout(() => Deno.exit(0), 200);
