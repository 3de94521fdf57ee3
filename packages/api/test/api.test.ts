import { loadTinyTokenizer } from "./tinyTokenizer.ts";
import { describe, expect, it } from "vitest";
import { type ApiOptions, type RequestRecord, createApi } from "../src/mod.ts";
import { FakeEngine } from "./fakeEngine.ts";

const { tokenizer, template } = loadTinyTokenizer();
const TEXT = "Once upon a time there was a clever fox named Kate.";
const model = { id: "tiny", vocabSize: 3072, stopTokenIds: [1], recommended: null, created: 0 };

function open(more: Partial<ApiOptions> = {}): { api: ReturnType<typeof createApi>; engine: FakeEngine; records: RequestRecord[] } {
  const engine = new FakeEngine(tokenizer.encode(TEXT));
  const records: RequestRecord[] = [];
  const api = createApi({ engine, tokenizer, template, model, onRequest: (record) => records.push(record), ...more });
  return { api, engine, records };
}

function post(body: string | Uint8Array<ArrayBuffer>, path = "/v1/chat/completions", init: RequestInit = {}): Request {
  return new Request(`http://localhost${path}`, { method: "POST", body, headers: { "content-type": "application/json" }, ...init });
}

const CHAT = { messages: [{ role: "user", content: "Hi" }] };

interface Failure {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
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

  it("refuses more than it was told to take, and says when to come back", async () => {
    const { api, engine } = open({ limits: { maxPerClient: 2, maxBodyBytes: 2000 } });
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    engine.pause = () => held;
    const first = [api(post(JSON.stringify(CHAT)), { client: "a" }), api(post(JSON.stringify(CHAT)), { client: "a" })];
    await new Promise((resolve) => setTimeout(resolve, 5));
    const third = await api(post(JSON.stringify(CHAT)), { client: "a" });
    expect(third.status).toBe(429);
    expect(third.headers.get("retry-after")).not.toBeNull();
    const other = api(post(JSON.stringify(CHAT)), { client: "b" });
    release();
    for (const answer of [...first, other]) expect((await answer).status).toBe(200);
    expect((await api(post(JSON.stringify({ messages: [{ role: "user", content: "x".repeat(3000) }] })))).status).toBe(413);
  });

  it("gives an answer up after its time, and says so", async () => {
    const { api, engine } = open({ limits: { timeoutMs: 20 } });
    engine.pause = () => new Promise((resolve) => setTimeout(resolve, 15));
    expect((await api(post(JSON.stringify(CHAT)))).status).toBe(408);
    expect(engine.running).toBe(0);
  });

  it("never fails at nonsense, and names what was wrong with it", async () => {
    const { api } = open();
    const random = randomOf(7);
    let named = 0;
    let taken = 0;
    for (let i = 0; i < 2000; i++) {
      const response = await api(post(nonsense(random), random(3) === 0 ? "/v1/completions" : "/v1/chat/completions"));
      expect(response.status).toBeLessThan(500);
      if (response.status === 200) {
        taken++;
        await response.text();
        continue;
      }
      const { error } = (await response.json()) as Failure;
      expect(error.message).toMatch(/expected|Cannot/);
      if (error.param !== null && error.param !== "") named++;
    }
    // Some changes leave a request sound; all others are named but for bodies that are no JSON object at all.
    expect(taken).toBeLessThan(1000);
    expect(named).toBeGreaterThan(600);
  });
});

function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const FIELDS = [
  "messages",
  "prompt",
  "model",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "seed",
  "stop",
  "n",
  "max_tokens",
  "stream",
  "stream_options",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "frequency_penalty",
  "presence_penalty",
  "repetition_penalty",
  "response_format",
  "tools",
  "tool_choice",
  "thinking",
  "echo",
  "suffix",
  "user",
  "stop_token_ids",
  "max_completion_tokens",
  "__proto__",
  "constructor",
];
const VALUES: readonly unknown[] = [
  null,
  true,
  "",
  "text",
  -1,
  0,
  0.5,
  1e308,
  -1e308,
  2 ** 53,
  [],
  {},
  [[]],
  [null],
  [{}],
  { role: "user" },
  [{ role: "martian", content: "x" }],
  [{ role: "user", content: { deep: [1] } }],
  [{ role: "user", content: [{ type: "image_url" }] }],
  { "-1": 1 },
  { "99999": 200 },
  { type: "json_schema", json_schema: { schema: 3 } },
  [{ type: "function", function: { name: 5, parameters: "no" } }],
  "\ud800",
  "\u0000",
  "x".repeat(5000),
];

/** A sound request with some fields replaced, or bytes that are no request at all. */
function nonsense(random: (below: number) => number): string | Uint8Array<ArrayBuffer> {
  if (random(20) === 0) return Uint8Array.from({ length: random(60) }, () => random(256));
  if (random(20) === 0) return "[".repeat(random(100_000));
  if (random(20) === 0) return `{"messages": ${'{"a":'.repeat(random(200))}`;
  const body: Record<string, unknown> = { messages: [{ role: "user", content: "Hi" }], prompt: "Hi", max_tokens: 2 };
  if (random(2) === 0) delete body[random(2) === 0 ? "messages" : "prompt"];
  for (let changes = 1 + random(3); changes > 0; changes--)
    Object.defineProperty(body, FIELDS[random(FIELDS.length)] ?? "n", {
      value: VALUES[random(VALUES.length)],
      enumerable: true,
      configurable: true,
      writable: true,
    });
  return JSON.stringify(body);
}
