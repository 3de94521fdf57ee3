import { describe, expect, test } from "vitest";
import { bridgeLane, bridgedLane } from "../src/link/bridgedLane.ts";
import { crc32 } from "../src/link/crc32.ts";
import { MAX_FRAME_BYTES, decodeFrame, encodeFrame } from "../src/link/frames.ts";
import { type MemoryLane, memoryLanes } from "../src/link/memoryLane.ts";
import { portLane } from "../src/link/portLane.ts";
import { StripedLink } from "../src/link/stripedLink.ts";
import { LINK_CASES, type MakeLane, inbox, pattern } from "./linkContract.ts";
import { SimulatedClock } from "./simulatedClock.ts";

const LANES: Record<string, MakeLane> = {
  memory: () => Promise.resolve(memoryLanes()),
  "a port": () => {
    const { port1, port2 } = new MessageChannel();
    return Promise.resolve([portLane(port1), portLane(port2)]);
  },
  "a connection of another thread's": () => {
    const [near, far] = memoryLanes();
    const { port1, port2 } = new MessageChannel();
    bridgeLane(near, port1);
    return Promise.resolve([bridgedLane(port2, near.kind), far]);
  },
};

for (const [kind, make] of Object.entries(LANES))
  describe(`a link over ${kind}`, () => {
    for (const { name, run } of LINK_CASES) test(name, () => run(make));
  });

describe("frames", () => {
  test("crc32() gives the check value of the standard", () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf4_3926);
    expect(crc32(new Uint8Array())).toBe(0);
  });

  test("a frame is laid out as documented", () => {
    const frame = encodeFrame({ kind: "data", message: 0x0102_0304, totalBytes: 6, offset: 4, fragment: Uint8Array.of(0xaa, 0xbb) });
    expect(Buffer.from(frame).toString("hex")).toBe(`01010000${crcHex(frame)}040302010600000004000000aabb`);
    expect(decodeFrame(frame)).toEqual({
      kind: "data",
      message: 0x0102_0304,
      totalBytes: 6,
      offset: 4,
      fragment: Uint8Array.of(0xaa, 0xbb),
    });
  });

  test("every frame of the protocol survives encoding", () => {
    for (const frame of [
      { kind: "ack", next: 12 },
      { kind: "ping", number: 0xffff_ffff },
      { kind: "pong", number: 0 },
      { kind: "bye", reason: "für immer" },
    ] as const)
      expect(decodeFrame(encodeFrame(frame))).toEqual(frame);
  });

  test("10,000 malformed frames are refused by name, and end only their own link", async () => {
    const random = generator(20261126);
    const sound = [
      encodeFrame({ kind: "data", message: 3, totalBytes: 4000, offset: 1000, fragment: pattern(1000, 1) }),
      encodeFrame({ kind: "ack", next: 2 }),
      encodeFrame({ kind: "bye", reason: "reason" }),
    ];
    let refused = 0;
    for (let i = 0; i < 10_000; i++) {
      const frame = mutated(sound[i % sound.length] ?? new Uint8Array(), random, i % 2 === 0);
      try {
        decodeFrame(frame);
      } catch (error) {
        expect(error).toMatchObject({ name: "SwarmError", code: "malformed" });
        refused++;
      }
    }
    // Half have their checksum made right again, so that the fields behind it are reached; of those some are sound by chance.
    expect(refused).toBeGreaterThan(7000);
  });

  test("2,000 malformed frames to live links: each link ends or goes on, none throws, none keeps more than its window", async () => {
    const random = generator(7);
    for (let i = 0; i < 2000; i++) {
      const clock = new SimulatedClock();
      const [near, far] = memoryLanes({ clock });
      const link = new StripedLink({ remote: "enemy", clock });
      link.addLane(far);
      link.listen(() => {});
      near.listen({ onFrame: () => {}, onClose: () => {}, onDrain: () => {} });
      near.send(
        mutated(
          encodeFrame({ kind: "data", message: i % 300, totalBytes: 1 + (i % 5000), offset: 0, fragment: new Uint8Array(1) }),
          random,
          true,
        ),
      );
      await clock.advance(1);
      link.close();
      await link.closed;
    }
  });
});

describe("a striped link on a simulated clock", () => {
  function pair(count: number, delayMs: number | (() => number) = 10) {
    const clock = new SimulatedClock();
    const lanes: (readonly [MemoryLane, MemoryLane])[] = [];
    const a = new StripedLink({ remote: "b", clock });
    const b = new StripedLink({ remote: "a", clock });
    for (let i = 0; i < count; i++) {
      const ends = memoryLanes({ clock, delayMs: typeof delayMs === "number" ? () => delayMs : delayMs });
      a.addLane(ends[0]);
      b.addLane(ends[1]);
      lanes.push(ends);
    }
    return { clock, a, b, lanes };
  }

  test("the parts of one token's hidden states go over all lanes", async () => {
    const clock = new SimulatedClock();
    const sent = [0, 0, 0, 0];
    const a = new StripedLink({ remote: "b", clock });
    for (let i = 0; i < 4; i++) {
      const [near, far] = memoryLanes({
        clock,
        tamper: (frame) => {
          if (frame[1] === 1) sent[i] = (sent[i] ?? 0) + frame.byteLength;
          return frame;
        },
      });
      far.listen({ onFrame: () => {}, onClose: () => {}, onDrain: () => {} });
      a.addLane(near);
    }
    await a.send(new Uint8Array(14_344));
    await clock.advance(1);
    expect(sent).toEqual([3606, 3606, 3606, 3606]);
    a.close();
  });

  test("a cut cable is noticed within 1.8 s, and everything goes over the others", async () => {
    const { clock, a, b, lanes } = pair(3);
    const box = inbox(b);
    await clock.advance(1000);
    lanes[0]?.[0].cut();
    await a.send(pattern(50_000, 4));
    const message = await clock.until(box.take(), 1800);
    expect(Buffer.compare(message, pattern(50_000, 4))).toBe(0);
    expect(a.stats().lanes).toBe(2);
    expect(a.stats().resent).toBeGreaterThan(0);
    a.close();
    await clock.advance(100);
    expect(clock.pending).toBe(0);
  });

  test("a link whose lanes are all cut is lost after silence and the time for reconnecting; senders that wait are told", async () => {
    const { clock, a, lanes } = pair(2);
    for (const [near] of lanes) near.cut();
    const sends = Array.from({ length: 300 }, () => a.send(new Uint8Array(10)));
    const results = Promise.allSettled(sends);
    const error = await clock.until(a.closed, 5000);
    expect(error).toMatchObject({ code: "link-lost" });
    expect((await results).filter(({ status }) => status === "rejected")).toHaveLength(300 - 256);
  });

  test("a silence that is unusual for the link is told of, until something comes; the same again is not unusual", async () => {
    const way = { delayMs: 20 };
    const { clock, a } = pair(2, () => way.delayMs);
    await clock.advance(3100);
    expect(a.stats().silentMs).toBe(0);
    const seen: number[] = [];
    const watch = async (): Promise<void> => {
      for (let ms = 0; ms < 2000; ms += 50) {
        await clock.advance(50);
        seen.push(a.stats().silentMs);
      }
    };
    way.delayMs += 1100;
    await watch();
    expect(Math.max(...seen.splice(0))).toBeGreaterThan(1000);
    expect(a.stats().silentMs).toBe(0);
    way.delayMs += 1100;
    for (let ms = 0; ms < 2000; ms += 50) {
      await clock.advance(50);
      expect(a.stats().silentMs).toBe(0);
    }
    expect(a.stats().lanes).toBe(2);
    a.close();
  });

  test("round trips are measured", async () => {
    const { clock, a } = pair(2, 35);
    await clock.advance(3000);
    expect(a.stats().rttMs).toBe(70);
    a.close();
  });

  test("a thread that stood still for seconds does not blame the other end", async () => {
    const clock = new SimulatedClock();
    let skipped = 0;
    const standing = { now: () => clock.now() + skipped, after: clock.after.bind(clock) };
    const a = new StripedLink({ remote: "b", clock: standing });
    const b = new StripedLink({ remote: "a", clock });
    const [near, far] = memoryLanes({ clock, delayMs: () => 10 });
    a.addLane(near);
    b.addLane(far);
    await clock.advance(1000);
    skipped = 10_000;
    await clock.advance(1000);
    expect(a.lanes).toBe(1);
    a.close();
  });

  test("an acknowledgement of messages that were never sent ends the link", async () => {
    const clock = new SimulatedClock();
    const [near, far] = memoryLanes({ clock });
    const link = new StripedLink({ remote: "enemy", clock });
    link.addLane(far);
    near.send(encodeFrame({ kind: "ack", next: 5 }));
    expect(await clock.until(link.closed, 100)).toMatchObject({ code: "malformed" });
  });

  test("fragments that overlap and leave a hole are no message", async () => {
    const clock = new SimulatedClock();
    const [near, far] = memoryLanes({ clock });
    const link = new StripedLink({ remote: "enemy", clock });
    link.addLane(far);
    near.send(encodeFrame({ kind: "data", message: 0, totalBytes: 30, offset: 0, fragment: new Uint8Array(10) }));
    near.send(encodeFrame({ kind: "data", message: 0, totalBytes: 30, offset: 5, fragment: new Uint8Array(20) }));
    expect(await clock.until(link.closed, 100)).toMatchObject({ code: "malformed" });
  });

  test("a message beyond the window, or larger than it, is refused before memory is taken", async () => {
    for (const [message, totalBytes] of [
      [256, 10],
      [1, 32 * 2 ** 20],
    ] as const) {
      const clock = new SimulatedClock();
      const [near, far] = memoryLanes({ clock });
      const link = new StripedLink({ remote: "enemy", clock });
      link.addLane(far);
      for (let i = 2; i < 4; i++)
        near.send(encodeFrame({ kind: "data", message: i, totalBytes: 32 * 2 ** 20, offset: 0, fragment: new Uint8Array(1) }));
      near.send(encodeFrame({ kind: "data", message, totalBytes, offset: 0, fragment: new Uint8Array(1) }));
      expect(await clock.until(link.closed, 100)).toMatchObject({ code: "malformed" });
    }
  });

  test("more messages than anybody listens to end the link", async () => {
    const { clock, a, b } = pair(1, 1);
    const sending = Promise.allSettled(Array.from({ length: 600 }, () => a.send(Uint8Array.of(1))));
    expect(await clock.until(b.closed, 1000)).toMatchObject({ code: "overloaded" });
    await clock.until(sending, 6000);
  });
});

function crcHex(frame: Uint8Array): string {
  const sum = new DataView(new ArrayBuffer(4));
  sum.setUint32(0, crc32(frame.subarray(8)), true);
  return Buffer.from(sum.buffer).toString("hex");
}

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Bytes changed, cut off or added; with a sum that is right if asked for. */
function mutated(frame: Uint8Array, random: () => number, resum: boolean): Uint8Array<ArrayBuffer> {
  const length = random() < 0.3 ? Math.floor(random() * (random() < 0.1 ? MAX_FRAME_BYTES + 100 : frame.byteLength + 8)) : frame.byteLength;
  const bytes = new Uint8Array(length);
  bytes.set(frame.subarray(0, length));
  for (let i = Math.floor(random() * 4); i >= 0; i--)
    if (length > 0) bytes[Math.floor(random() * Math.min(length, 24))] = Math.floor(random() * 256);
  if (resum && length >= 8) {
    bytes[0] = 1;
    bytes[2] = 0;
    bytes[3] = 0;
    new DataView(bytes.buffer).setUint32(4, crc32(bytes.subarray(8)), true);
  }
  return bytes;
}
