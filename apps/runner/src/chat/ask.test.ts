import type { ChatSession, ChatTurn, SendOptions } from "@shoal/engine";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeTerminal } from "../../test/fakeTerminal.ts";
import { ask } from "./ask.ts";

const timings = { promptTokens: 900, cachedTokens: 0, generatedTokens: 2, firstTokenMs: 0, decodeMs: 0 };
const sampling = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

/** Answers "Hello." after a long prompt. */
const slow = {
  async send(_text: string, { onText, onPrefill }: SendOptions): Promise<ChatTurn> {
    await new Promise((resolve) => setTimeout(resolve, 6000));
    onPrefill?.(256, 900);
    await new Promise((resolve) => setTimeout(resolve, 6000));
    onText?.("Hel");
    onText?.("lo.");
    return { text: "Hello.", ids: [1, 2], finishReason: "stop", timings };
  },
} as Pick<ChatSession, "send"> as ChatSession;

describe("ask()", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const run = async (terminal: FakeTerminal, quiet = false): Promise<void> => {
    const asked = ask(terminal, slow, "Hi", { maxNewTokens: 5, sampling, before: "Completion: ", quiet });
    await vi.advanceTimersByTimeAsync(20_000);
    await asked;
  };

  it("streams the answer behind its mark, and says on a terminal what it is waiting for until then", async () => {
    const terminal = new FakeTerminal({ errIsTerminal: true });
    await run(terminal);
    expect(terminal.output).toBe("Completion: Hello.");
    expect(terminal.errors).toMatch(/^\rComputing the prompt; .*\rComputing the prompt: 256 of 900 tokens +\r +\r$/);
  });

  it("says it once where there is no terminal", async () => {
    const terminal = new FakeTerminal({});
    await run(terminal);
    expect(terminal.errors).toMatch(/^Computing the prompt; [^\n]*\n$/);
  });

  it("keeps the text to itself when the caller prints it", async () => {
    const terminal = new FakeTerminal({});
    await run(terminal, true);
    expect(terminal.output).toBe("");
  });
});
