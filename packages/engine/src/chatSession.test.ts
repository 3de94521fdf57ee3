import { readFileSync } from "node:fs";
import { tinyModelUrl } from "@shoal/tiny-model";
import { loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";
import { describe, expect, it } from "vitest";
import { ChatSession } from "./chatSession.ts";
import type { GenerationRequest, GenerationResult, TokenGenerator } from "./generation.ts";
import { GREEDY } from "./sampling.ts";

const text = (name: string): string => readFileSync(new URL(name, tinyModelUrl), "utf8");
const tokenizer = loadTokenizer({ tokenizerJson: text("tokenizer.json"), tokenizerConfigJson: text("tokenizer_config.json") });
const template = loadChatTemplate(tokenizer);
const options = { maxNewTokens: 10, sampling: GREEDY };

class Parrot implements TokenGenerator {
  readonly prompts: (readonly number[])[] = [];
  failure: Error | undefined;
  answer = "Nice to meet you — é!";

  generate({ promptIds, onTokens }: GenerationRequest): Promise<GenerationResult> {
    this.prompts.push(promptIds);
    const ids = tokenizer.encode(this.answer);
    for (const id of ids) onTokens?.([id]);
    if (this.failure) return Promise.reject(this.failure);
    const timings = { promptTokens: promptIds.length, cachedTokens: 0, generatedTokens: ids.length, firstTokenMs: 0, decodeMs: 0 };
    return Promise.resolve({ ids, finishReason: "stop", timings });
  }
}

const session = (generator: TokenGenerator, system?: string): ChatSession =>
  new ChatSession({ tokenizer, template, generator, stopTokenIds: [1], system });

describe("ChatSession", () => {
  it("streams the answer in whole characters and remembers it", async () => {
    const parrot = new Parrot();
    const chat = session(parrot);
    const pieces: string[] = [];
    const turn = await chat.send("Hi", { ...options, onText: (piece) => pieces.push(piece) });
    expect(turn.text).toBe(parrot.answer);
    expect(pieces.join("")).toBe(parrot.answer);
    expect(pieces.join("")).not.toContain("\uFFFD");
    await chat.send("And?", options);
    const [first = [], second = []] = parrot.prompts;
    expect(second.slice(0, first.length)).toEqual(first);
    expect(tokenizer.decode(second)).toContain(parrot.answer);
  });

  it("forgets everything but the system message when cleared", async () => {
    const chat = session(new Parrot(), "Be kind.");
    await chat.send("Hi", options);
    expect(chat.messages).toHaveLength(3);
    chat.clear();
    expect(chat.messages).toEqual([{ role: "system", content: "Be kind." }]);
  });

  it("leaves the conversation as it was when a turn fails", async () => {
    const parrot = new Parrot();
    parrot.failure = new Error("no");
    const chat = session(parrot);
    await expect(chat.send("Hi", options)).rejects.toThrow("no");
    expect(chat.messages).toEqual([]);
  });

  it("keeps what was said when a turn is stopped", async () => {
    const parrot = new Parrot();
    parrot.failure = new Error("stopped");
    const chat = session(parrot);
    await expect(chat.send("Hi", { ...options, signal: AbortSignal.abort() })).rejects.toThrow("stopped");
    expect(chat.messages).toEqual([
      { role: "user", content: "Hi" },
      { role: "assistant", content: parrot.answer },
    ]);
  });
});
