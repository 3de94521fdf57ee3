import { describe, expect, it } from "vitest";
import type { ApiOptions } from "../src/mod.ts";
import { CHAT, type Failure, TEXT, events, model, open, post, tokenizer } from "./opened.ts";
import { withFim } from "./tinyTokenizer.ts";

interface ChatAnswer {
  readonly choices: readonly {
    readonly logprobs: {
      readonly content: readonly {
        readonly token: string;
        readonly logprob: number;
        readonly bytes: readonly number[];
        readonly top_logprobs: readonly { readonly logprob: number }[];
      }[];
    } | null;
  }[];
}

interface CompletionAnswer {
  readonly choices: readonly {
    readonly text?: string;
    readonly finish_reason?: string | null;
    readonly logprobs?: {
      readonly tokens: readonly string[];
      readonly token_logprobs: readonly (number | null)[];
      readonly top_logprobs: readonly unknown[];
      readonly text_offset: readonly number[];
    } | null;
  }[];
  readonly usage: { readonly completion_tokens: number };
}

describe("createApi()", () => {
  it("answers whole and in pieces, the same text", async () => {
    const { api } = open();
    const whole = (await (await api(post(JSON.stringify(CHAT)))).json()) as { choices: { message: { content: string } }[] };
    expect(whole.choices[0]?.message.content).toBe(TEXT);
    const stream = await (await api(post(JSON.stringify({ ...CHAT, stream: true })))).text();
    const events = stream.split("\n\n").filter((event) => event.startsWith("data: {"));
    const pieces = events.map(
      (event) => (JSON.parse(event.slice(6)) as { choices: { delta: { content?: string } }[] }).choices[0]?.delta.content ?? "",
    );
    expect(pieces.join("")).toBe(TEXT);
    expect(stream.trimEnd().endsWith("data: [DONE]")).toBe(true);
  });

  it("counts how experts are paged, and does without where a device cannot say", async () => {
    const paged = { needed: 40, hits: 30, loads: 10, loadedBytes: 5000, prefetched: 4, prefetchHits: 3, stallMs: 1500 };
    const read = async (paging: NonNullable<ApiOptions["paging"]>): Promise<string> =>
      (await open({ paging }).api(new Request("http://localhost/metrics"))).text();
    const text = await read(async () => [{ device: 'a "GPU" (0)', ...paged }]);
    expect(text).toContain('shoal_experts_needed_total{device="a \\"GPU\\" (0)"} 40\n');
    expect(text).toContain('shoal_expert_hits_total{device="a \\"GPU\\" (0)"} 30\n');
    expect(text).toContain('shoal_expert_stall_seconds_total{device="a \\"GPU\\" (0)"} 1.5\n');
    const gone = read(() => Promise.reject(new Error("it is gone")));
    expect(await gone).toMatch(/^(?![^]*shoal_expert)[^]*shoal_steps_total/);
  });

  it("cuts at stop strings, wherever tokens end, and stops the engine there", async () => {
    for (const [stop, expected] of [
      ["there was", "Once upon a time "],
      ["Kat", "Once upon a time there was a clever fox named "],
      ["O", ""],
      ["never said", TEXT],
    ] as const) {
      const { api, engine } = open();
      const answer = (await (await api(post(JSON.stringify({ ...CHAT, stop: [stop] })))).json()) as {
        choices: { message: { content: string } }[];
      };
      expect(answer.choices[0]?.message.content).toBe(expected);
      expect(engine.running).toBe(0);
    }
  });

  it("ends an answer whose client has gone, once, and is free for others", async () => {
    const { api, engine, records } = open();
    engine.pause = () => new Promise((resolve) => setTimeout(resolve, 5));
    const response = await api(post(JSON.stringify({ ...CHAT, stream: true })));
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(engine.running).toBe(0);
    expect(records.map(({ status }) => status)).toEqual([499]);
    const controller = new AbortController();
    const asked = api(post(JSON.stringify(CHAT), undefined, { signal: controller.signal }));
    await new Promise((resolve) => setTimeout(resolve, 10));
    controller.abort();
    await asked;
    expect(engine.running).toBe(0);
  });

  it("passes on how tokens are chosen, a seed more for each choice", async () => {
    const { api, engine } = open();
    const adjustments = { frequency_penalty: 0.5, presence_penalty: -1, repetition_penalty: 1.25, logit_bias: { "7": -100, "12": 3.5 } };
    expect((await api(post(JSON.stringify({ ...CHAT, ...adjustments, seed: 5, n: 2, temperature: 1 })))).status).toBe(200);
    const wanted = {
      frequencyPenalty: 0.5,
      presencePenalty: -1,
      repetitionPenalty: 1.25,
      logitBias: new Map([
        [7, -100],
        [12, 3.5],
      ]),
    };
    expect(engine.requests.map(({ sampling }) => sampling)).toEqual(
      [5n, 6n].map((seed) => expect.objectContaining({ ...wanted, seed }) as unknown),
    );
  });

  it("tells log probabilities of chats, as many as were asked for, with the bytes of each token", async () => {
    const { api } = open();
    const ids = tokenizer.encode(TEXT);
    const body = { ...CHAT, logprobs: true, top_logprobs: 2 };
    const { choices } = (await (await api(post(JSON.stringify(body)))).json()) as ChatAnswer;
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content.map(({ token }) => token).join("")).toBe(TEXT);
    expect(content.map(({ logprob }) => logprob)).toEqual(ids.map((id) => -id / 100));
    expect(content[0]?.bytes).toEqual([...tokenizer.tokenBytes(ids[0] ?? 0)]);
    expect(content[0]?.top_logprobs.map(({ logprob }) => logprob)).toEqual([0, -1]);
    const streamed = await api(post(JSON.stringify({ ...body, stream: true })));
    const chunks = events(await streamed.text()) as readonly ChatAnswer[];
    expect(chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? [])).toEqual(content);
    const alone = await api(post(JSON.stringify({ ...CHAT, top_logprobs: 2 })));
    expect(((await alone.json()) as Failure).error.param).toBe("top_logprobs");
  });

  it("repeats a completion's prompt with its log probabilities, whole and in pieces", async () => {
    const { api, engine } = open();
    const prompt = "A fox said: ";
    const ids = tokenizer.encode(prompt, { addSpecialTokens: true });
    const body = { prompt, echo: true, logprobs: 1, max_tokens: 3, n: 2 };
    const { choices } = (await (await api(post(JSON.stringify(body), "/v1/completions"))).json()) as CompletionAnswer;
    expect(engine.requests.map(({ promptLogprobs }) => promptLogprobs)).toEqual([true, true]);
    const [{ text, logprobs } = {}] = choices;
    const answer = tokenizer.encode(TEXT).slice(0, 3);
    expect(text).toBe(prompt + tokenizer.decode(answer));
    expect(logprobs?.token_logprobs).toEqual([null, ...ids.slice(1).map((id) => -id / 100), ...answer.map((id) => -id / 100)]);
    expect(logprobs?.top_logprobs[0]).toBeNull();
    expect(logprobs?.tokens).toHaveLength(ids.length + 3);
    // Each token of the text lies where it is said to begin; the mark before it is no text.
    for (const [index, token] of (logprobs?.tokens ?? []).entries())
      if (index > 0) expect(text?.slice(logprobs?.text_offset[index]).startsWith(token)).toBe(true);
    expect(logprobs?.text_offset.slice(0, 2)).toEqual([0, 0]);
    const streamed = events(
      await (await api(post(JSON.stringify({ ...body, n: 1, stream: true }), "/v1/completions"))).text(),
    ) as readonly CompletionAnswer[];
    expect(streamed.map((chunk) => chunk.choices[0]?.text ?? "").join("")).toBe(text);
    expect(streamed.flatMap((chunk) => chunk.choices[0]?.logprobs?.token_logprobs ?? [])).toEqual(logprobs?.token_logprobs);
    expect(streamed.flatMap((chunk) => chunk.choices[0]?.logprobs?.text_offset ?? [])).toEqual(logprobs?.text_offset);
  });

  it("scores a prompt alone, where no tokens are asked for", async () => {
    const { api } = open();
    const body = { prompt: [5, 9, 11], echo: true, logprobs: 0, max_tokens: 0 };
    const answer = (await (await api(post(JSON.stringify(body), "/v1/completions"))).json()) as CompletionAnswer;
    expect(answer.choices[0]?.logprobs?.token_logprobs).toEqual([null, -0.09, -0.11]);
    expect(answer.choices[0]?.text).toBe(tokenizer.decode([5, 9, 11], { skipSpecialTokens: true }));
    expect(answer.choices[0]?.finish_reason).toBe("length");
    expect(answer.usage.completion_tokens).toBe(0);
  });

  it("fills in a middle where the model has tokens for it, and says what it cannot do", async () => {
    const { api, engine } = open({ tokenizer: withFim(), model: { ...model, vocabSize: 4099 } });
    const ask = async (body: unknown, on = api): Promise<Failure> =>
      (await (await on(post(JSON.stringify(body), "/v1/completions"))).json()) as Failure;
    await ask({ prompt: "A fox", suffix: "home." });
    expect(engine.requests[0]?.promptIds).toEqual([0, 4097, ...tokenizer.encode("A fox"), 4096, ...tokenizer.encode("home."), 4098]);
    const refusals: readonly [unknown, string, ReturnType<typeof open>["api"]?][] = [
      [{ prompt: "A fox", suffix: "home." }, "suffix", open().api],
      [{ prompt: "A fox", suffix: "home.", echo: true }, "echo"],
      [{ prompt: "A fox", best_of: 3 }, "best_of"],
      [{ prompt: "A fox", max_tokens: 0 }, "max_tokens"],
      [{ prompt: "A fox", logprobs: 21 }, "logprobs"],
    ];
    for (const [body, param, on] of refusals) expect((await ask(body, on)).error.param).toBe(param);
  });
});
