/** What every link must do, whatever its lanes are. Run on memory, on a worker's port and on WebRTC. */
import assert from "node:assert/strict";
import { MAX_MESSAGE_BYTES } from "../src/link/frames.ts";
import type { Lane } from "../src/link/lane.ts";
import type { Link } from "../src/link/link.ts";
import { StripedLink } from "../src/link/stripedLink.ts";
import { WINDOW_MESSAGES } from "../src/link/reassembly.ts";

/** Both ends of one new lane. */
export type MakeLane = () => Promise<readonly [Lane, Lane]>;

export interface LinkCase {
  readonly name: string;
  readonly run: (make: MakeLane) => Promise<void>;
}

export async function linkPair(make: MakeLane, lanes: number): Promise<readonly [StripedLink, StripedLink]> {
  const a = new StripedLink({ remote: "b" });
  const b = new StripedLink({ remote: "a" });
  for (let i = 0; i < lanes; i++) await addLane(make, a, b);
  return [a, b];
}

async function addLane(make: MakeLane, a: StripedLink, b: StripedLink): Promise<readonly [Lane, Lane]> {
  const ends = await make();
  a.addLane(ends[0]);
  b.addLane(ends[1]);
  return ends;
}

export function pattern(bytes: number, seed: number): Uint8Array<ArrayBuffer> {
  const values = new Uint8Array(bytes);
  let state = seed * 2_654_435_761 + 1;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    values[i] = state >>> 24;
  }
  return values;
}

/** The next messages of a link, in order. */
export function inbox(link: Link): { take(): Promise<Uint8Array>; readonly waiting: number } {
  const arrived: Uint8Array[] = [];
  const takers: ((message: Uint8Array) => void)[] = [];
  link.listen((message) => {
    const taker = takers.shift();
    if (taker) taker(message);
    else arrived.push(message);
  });
  return {
    take: () => {
      const message = arrived.shift();
      return message ? Promise.resolve(message) : new Promise((resolve) => takers.push(resolve));
    },
    get waiting() {
      return arrived.length;
    },
  };
}

async function closing(a: StripedLink, b: StripedLink): Promise<void> {
  a.close();
  await Promise.all([a.closed, b.closed]);
}

export const LINK_CASES: readonly LinkCase[] = [
  {
    name: "messages of every length around the cuts arrive whole, once and in order",
    async run(make) {
      const [a, b] = await linkPair(make, 4);
      const box = inbox(b);
      const lengths = [0, 1, 1151, 1152, 1153, 4608, 4609, 14_344, 16_363, 16_364, 16_365, 65_456, 65_457, 300_001, 1_000_000];
      for (const [seed, length] of lengths.entries()) await a.send(pattern(length, seed));
      for (const [seed, length] of lengths.entries()) {
        const message = await box.take();
        assert.equal(message.byteLength, length);
        assert.deepEqual(Buffer.compare(message, pattern(length, seed)), 0, `message of ${length} bytes differs`);
      }
      await closing(a, b);
    },
  },
  {
    name: "both ends talk at once, more messages than the window holds",
    async run(make) {
      const [a, b] = await linkPair(make, 3);
      const talk = async (link: StripedLink): Promise<void> => {
        const box = inbox(link);
        const count = 3 * WINDOW_MESSAGES;
        const send = async (): Promise<void> => {
          for (let i = 0; i < count; i++) await link.send(Uint8Array.of(i & 255, i >> 8));
        };
        const receive = async (): Promise<void> => {
          for (let i = 0; i < count; i++) assert.deepEqual([...(await box.take())], [i & 255, i >> 8]);
        };
        await Promise.all([send(), receive()]);
      };
      await Promise.all([talk(a), talk(b)]);
      await closing(a, b);
    },
  },
  {
    name: "messages sent before anybody listens are kept",
    async run(make) {
      const [a, b] = await linkPair(make, 2);
      await a.send(Uint8Array.of(7));
      await a.send(Uint8Array.of(8));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const box = inbox(b);
      assert.deepEqual([...(await box.take()), ...(await box.take())], [7, 8]);
      await closing(a, b);
    },
  },
  {
    name: "a lane that is lost in the middle of messages loses none of them",
    async run(make) {
      const [a, b] = await linkPair(make, 2);
      const ends = await addLane(make, a, b);
      const box = inbox(b);
      const count = 40;
      const send = async (): Promise<void> => {
        for (let i = 0; i < count; i++) {
          await a.send(pattern(100_000, i));
          if (i === 10) ends[0].close();
        }
      };
      const sending = send();
      for (let i = 0; i < count; i++) assert.equal(Buffer.compare(await box.take(), pattern(100_000, i)), 0, `message ${i} differs`);
      await sending;
      assert.equal(a.lanes, 2);
      await closing(a, b);
    },
  },
  {
    name: "all lanes lost: a new one carries on where they stopped",
    async run(make) {
      const [a, b] = await linkPair(make, 0);
      const first = await addLane(make, a, b);
      const box = inbox(b);
      await a.send(pattern(5000, 1));
      assert.equal((await box.take()).byteLength, 5000);
      first[0].close();
      while (a.lanes > 0 || b.lanes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      await a.send(pattern(6000, 2));
      await addLane(make, a, b);
      assert.equal(Buffer.compare(await box.take(), pattern(6000, 2)), 0);
      await closing(a, b);
    },
  },
  {
    name: "close tells the other end why, and sending is refused afterwards",
    async run(make) {
      const [a, b] = await linkPair(make, 2);
      a.close("leaving");
      assert.match((await b.closed).message, /leaving/);
      await assert.rejects(a.send(Uint8Array.of(1)), { name: "SwarmError", code: "closed" });
      await assert.rejects(b.send(Uint8Array.of(1)), { name: "SwarmError", code: "closed" });
    },
  },
  {
    name: "a message larger than the limit is refused by its sender",
    async run(make) {
      const [a, b] = await linkPair(make, 1);
      await assert.rejects(a.send(new Uint8Array(MAX_MESSAGE_BYTES + 1)), { name: "SwarmError", code: "malformed" });
      await closing(a, b);
    },
  },
];
