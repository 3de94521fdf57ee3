/** What comes over a line from another stage, which may be anything. */
import { describe, expect, it } from "vitest";
import { memoryChannel } from "../channels/memory.ts";
import type { FrameChannel } from "../wire/channel.ts";
import { encodeFrame } from "../wire/frame.ts";
import { Tensor } from "../wire/tensor.ts";
import { HandInlet } from "./handing.ts";

function inlet(): { readonly inlet: HandInlet; readonly send: (body: unknown) => void; readonly far: FrameChannel } {
  const [near, far] = memoryChannel();
  const send = (body: unknown): void => far.send(encodeFrame({ kind: "call", call: 0, target: 0, method: "hand", body }));
  return { inlet: new HandInlet("the stage before", Promise.resolve(near), () => undefined), send, far };
}

const rows = (count: number): Tensor => new Tensor(new Float32Array(count * 2), [count, 2]);

describe("what is handed on", () => {
  it("is waited for by its number, and taken once", async () => {
    const { inlet: from, send } = inlet();
    const waiting = from.until(4);
    send({ number: 2, hidden: rows(1) });
    send({ number: 4, hidden: rows(3), tokens: [[1, 70]] });
    await waiting;
    expect(from.take(4, 3)).toHaveLength(6);
    expect(() => from.take(4, 3)).toThrow("no hidden states came by 4");
    expect(from.token(1)).toBe(70);
    expect(() => from.token(2)).toThrow("no token came for sequence 2");
    expect(() => from.take(2, 5)).toThrow("expected f32 [5, any]");
  });

  it.each([
    ["a number that does not rise", [{ number: 3 }, { number: 3 }], "its number is 3, expected more than 3"],
    ["a number that is none", [{ number: -1 }], "hand.number"],
    ["hidden states that are none", [{ number: 1, hidden: [1, 2] }], "hand.hidden"],
    ["a token that is none", [{ number: 1, tokens: [[0, -5]] }], "hand.tokens.0.1"],
    ["something else", [{ number: 1, more: 1 }], "hand"],
    ["inputs that nobody asked for", Array.from({ length: 1025 }, (_, number) => ({ number, hidden: rows(1) })), "1024 steps wait"],
  ])("ends the line: %s", async (_, bodies, message) => {
    const { inlet: from, send, far } = inlet();
    for (const body of bodies) send(body);
    await expect(from.until(5000)).rejects.toThrow(message);
    await expect(far.closed).resolves.toBeTypeOf("string");
  });

  it("comes before the end of the line, which whoever waits for more learns of", async () => {
    const { inlet: from, send, far } = inlet();
    send({ number: 1, hidden: rows(1) });
    await new Promise((resolve) => setTimeout(resolve, 0));
    far.close("it is gone");
    await from.until(1);
    await expect(from.until(2)).rejects.toMatchObject({ name: "PeerLostError", peer: "the stage before" });
  });

  it("may be an error, which is thrown as it was", async () => {
    const { inlet: from, send } = inlet();
    send({ number: 1, error: { name: "ModelError", message: "Cannot do it", fields: { code: "bad-batch" } } });
    await expect(from.until(1)).rejects.toMatchObject({ name: "ModelError", code: "bad-batch" });
  });
});
