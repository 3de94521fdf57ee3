import { ModelError } from "@shoal/model";
import { describe, expect, it } from "vitest";
import { memoryChannel } from "../channels/memory.ts";
import { streamChannel } from "../channels/stream.ts";
import { Caller, answerCalls } from "./calls.ts";
import type { FrameChannel } from "./channel.ts";
import { encodeFrame } from "./frame.ts";
import { Tensor } from "./tensor.ts";

/** Two ends over byte streams whose chunks have nothing to do with frames. */
function streamPair(chunkBytes: number, maxFrameBytes?: number): readonly [FrameChannel, FrameChannel] {
  const cut = (): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> =>
    new TransformStream({
      transform(chunk, controller) {
        for (let at = 0; at < chunk.byteLength; at += chunkBytes) controller.enqueue(chunk.slice(at, at + chunkBytes));
      },
    });
  const [there, back] = [cut(), cut()];
  const options = maxFrameBytes === undefined ? {} : { maxFrameBytes };
  return [streamChannel(back.readable, there.writable, options), streamChannel(there.readable, back.writable, options)];
}

describe.each([
  ["in memory", () => memoryChannel()],
  ["over streams in single bytes", () => streamPair(1)],
  ["over streams in large chunks", () => streamPair(100_000)],
])("calls %s", (_, pair) => {
  it("are begun in their order, answered in any, and bring errors by name, code and field", async () => {
    const [here, there] = pair();
    const begun: string[] = [];
    answerCalls(there, async (target, method, body) => {
      begun.push(method);
      if (method === "bad") throw new ModelError("bad-batch", "Cannot do it");
      if (method === "slow") await new Promise((resolve) => setTimeout(resolve, 10));
      return { target, body };
    });
    const caller = new Caller(here, { peer: "the other" });
    const order: string[] = [];
    const call = async (method: string, body: unknown): Promise<unknown> => {
      const answer = await caller.call(5, method, body);
      order.push(method);
      return answer;
    };
    const bad = expect(call("bad", null)).rejects.toMatchObject({ name: "ModelError", code: "bad-batch", message: "Cannot do it" });
    const slow = call("slow", [1]);
    const quick = call("quick", new Tensor(Int32Array.of(1, 2)));
    await bad;
    expect(await slow).toEqual({ target: 5, body: [1] });
    expect(await quick).toMatchObject({ body: { data: Int32Array.of(1, 2), shape: [2] } });
    expect(begun).toEqual(["bad", "slow", "quick"]);
    expect(order).toEqual(["quick", "slow"]);
    expect(caller.traffic).toMatchObject({ messagesSent: 3, messagesReceived: 3 });
    caller.close();
  });

  it("end when the other side goes, those under way and later ones", async () => {
    const [here, there] = pair();
    answerCalls(there, () => new Promise(() => undefined));
    const caller = new Caller(here, { peer: "peer 7" });
    const call = caller.call(0, "wait", null);
    there.close("it had enough");
    await expect(call).rejects.toMatchObject({ name: "PeerLostError", peer: "peer 7" });
    await expect(caller.call(0, "wait", null)).rejects.toMatchObject({ name: "PeerLostError" });
    expect((await caller.lost).message).toMatch(/^Cannot reach peer 7: /);
  });
});

describe("Caller", () => {
  it("counts a silent other side as gone, and one that answers pings as there", async () => {
    const [here, there] = memoryChannel();
    answerCalls(there, () => new Promise((resolve) => setTimeout(() => resolve("at last"), 150)));
    expect(await new Caller(here, { peer: "slow", silenceMs: 60 }).call(0, "wait", null)).toBe("at last");
    const [lonely] = memoryChannel();
    await expect(new Caller(lonely, { peer: "nobody", silenceMs: 40 }).call(0, "wait", null)).rejects.toThrow(
      "Cannot reach nobody: it has been silent",
    );
  });

  it("ends a channel over which nonsense comes", async () => {
    const [here, there] = memoryChannel();
    const caller = new Caller(here, { peer: "babbler" });
    const call = caller.call(0, "x", null);
    there.send(new Uint8Array(100));
    await expect(call).rejects.toThrow("Cannot reach babbler: Cannot read a frame");
  });
});

describe("streamChannel", () => {
  it("closes before it makes room for a frame that is too large", async () => {
    const [here, there] = streamPair(3, 64);
    here.send(encodeFrame({ kind: "ping", call: 0, target: 0, body: "x".repeat(200) }));
    expect(await there.closed).toMatch(/it sent a frame of \d+ bytes, expected 1 to 64/);
  });
});
