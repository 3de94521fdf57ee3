import { expect, test } from "vitest";
import { type ChatCompletionChunk, createClient } from "./client.ts";

const HELLO = { messages: [{ role: "user" as const, content: "Hi" }] };

interface Seen {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  readonly body: unknown;
}

function clientOf(answer: () => Response, seen: Seen[] = [], more: Partial<Parameters<typeof createClient>[0]> = {}) {
  const fetch = async (input: Request | string | URL, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    const text = await request.text();
    seen.push({ url: request.url, method: request.method, headers: request.headers, body: text === "" ? undefined : JSON.parse(text) });
    return answer();
  };
  return createClient({ baseUrl: "https://models.test/v1", fetch, ...more });
}

/** As a stream of pieces that break anywhere. */
function events(text: string, size = 7): Response {
  const bytes = new TextEncoder().encode(text);
  const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
  return new Response(new Blob(pieces).stream(), { headers: { "content-type": "text/event-stream" } });
}

const chunk = (content: string, more: object = {}): string =>
  `data: ${JSON.stringify({ object: "chat.completion.chunk", choices: [{ index: 0, delta: { content }, finish_reason: null }], ...more })}\n\n`;

async function all(stream: AsyncIterable<ChatCompletionChunk>): Promise<readonly ChatCompletionChunk[]> {
  const chunks: ChatCompletionChunk[] = [];
  for await (const one of stream) chunks.push(one);
  return chunks;
}

test("create() streams what a server sends in pieces of any size, with usage asked for and its times beside it", async () => {
  const seen: Seen[] = [];
  const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
  const text = `: keep-alive\n\n${chunk("Grüß")}${chunk(" Gott")}data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`;
  const client = clientOf(() => events(text), seen, { apiKey: "secret", model: "m" });
  const chunks = await all(client.chat.completions.create({ ...HELLO, stream: true }));
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("Grüß Gott");
  expect(chunks.at(-1)).toMatchObject({ usage, timings: { decode_ms: expect.any(Number) as number } });
  expect(seen[0]).toMatchObject({ url: "https://models.test/v1/chat/completions", method: "POST" });
  expect(seen[0]?.body).toEqual({ ...HELLO, stream: true, model: "m", stream_options: { include_usage: true } });
  expect(seen[0]?.headers.get("authorization")).toBe("Bearer secret");
});

test("create() gives whole answers, and models.list() what is offered", async () => {
  const whole = {
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
  };
  expect(await clientOf(() => Response.json(whole)).chat.completions.create(HELLO)).toEqual(whole);
  expect(await clientOf(() => Response.json({ data: [{ id: "a" }, { id: 7 }, null] })).models.list()).toEqual([{ id: "a" }]);
});

test("create() throws a server's refusal in its own words", async () => {
  const error = { message: "Cannot use 'top_p'", type: "invalid_request_error", param: "top_p", code: "invalid_value" };
  const client = clientOf(() => Response.json({ error }, { status: 400 }));
  await expect(client.chat.completions.create(HELLO)).rejects.toMatchObject({
    name: "ApiRequestError",
    status: 400,
    param: "top_p",
    message: error.message,
  });
  await expect(all(client.chat.completions.create({ ...HELLO, stream: true }))).rejects.toMatchObject({ status: 400 });
  const broken = clientOf(() => new Response("<html>", { status: 502 }));
  await expect(broken.models.list()).rejects.toThrow("https://models.test said 502");
});

test.each([
  ["an error within the stream", `${chunk("a")}data: {"error":{"message":"the engine stopped"}}\n\n`, "the engine stopped"],
  ["a stream that ends early", chunk("a"), "ended early"],
  ["what is not JSON", "data: nonsense\n\n", "not JSON"],
  ["no choices", "data: {}\n\n", "without choices"],
  ["a delta that is no text", 'data: {"choices":[{"delta":{"content":{"a":1}}}]}\n\n', "not text"],
])("create() refuses %s", async (_, text, message) => {
  const client = clientOf(() => events(text));
  await expect(all(client.chat.completions.create({ ...HELLO, stream: true }))).rejects.toThrow(message);
});

test("create() says what to look for where nothing answers, and ends with the signal's reason", async () => {
  const client = createClient({ baseUrl: "https://models.test/v1/", fetch: () => Promise.reject(new TypeError("failed")) });
  await expect(client.chat.completions.create(HELLO)).rejects.toThrow("must allow this page's origin");
  const signal = AbortSignal.abort(new Error("enough"));
  await expect(client.chat.completions.create(HELLO, { signal })).rejects.toThrow("enough");
});

test("leaving a stream cancels it", async () => {
  let cancelled = false;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode(chunk("a"))),
    cancel: () => void (cancelled = true),
  });
  for await (const _ of clientOf(() => new Response(body)).chat.completions.create({ ...HELLO, stream: true })) break;
  expect(cancelled).toBe(true);
});
