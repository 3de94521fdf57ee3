import { expect, test } from "vitest";
import { Exchanges } from "./exchanges.ts";
import { portFetch } from "./portFetch.ts";

const NEVER = new Promise<never>(() => {});

function over(answer: (request: Request) => Response | Promise<Response>, death: Promise<never> = NEVER) {
  const exchanges = new Exchanges((request) => Promise.resolve(answer(request)));
  return { exchanges, fetch: portFetch(exchanges, death) };
}

test("portFetch carries method, path, headers and body there, and status, headers and body back", async () => {
  const { exchanges, fetch } = over(async (request) => {
    const said = `${request.method} ${new URL(request.url).pathname} ${request.headers.get("x-a")} ${await request.text()}`;
    return new Response(said, { status: 201, headers: { "x-b": "2" } });
  });
  const response = await fetch("https://anywhere.test/v1/chat/completions?x=1", { method: "POST", headers: { "x-a": "1" }, body: "hello" });
  expect([response.status, response.headers.get("x-b"), await response.text()]).toEqual([201, "2", "POST /v1/chat/completions 1 hello"]);
  expect(exchanges.size).toBe(0);
});

/** An endless body that says when nobody reads it any more. */
function endless() {
  const state = { read: 0, cancelled: false };
  const body = new ReadableStream(
    {
      pull(controller) {
        state.read++;
        controller.enqueue(new Uint8Array([state.read]));
      },
      cancel: () => void (state.cancelled = true),
    },
    { highWaterMark: 0 },
  );
  return { state, body };
}

test("portFetch reads no faster than its reader, and leaving a body ends the answer", async () => {
  const { state, body } = endless();
  const { exchanges, fetch } = over(() => new Response(body));
  const reader = (await fetch("http://e.test/")).body?.getReader();
  expect((await reader?.read())?.value).toEqual(new Uint8Array([1]));
  expect(state.read).toBe(1);
  await reader?.cancel();
  await expect.poll(() => state.cancelled).toBe(true);
  expect(exchanges.size).toBe(0);
});

test("portFetch ends with the signal's reason, before the answer and within it", async () => {
  const waiting = new AbortController();
  let heard: AbortSignal | undefined;
  const { fetch } = over(({ signal }) => {
    heard = signal;
    return NEVER;
  });
  const answer = fetch("http://e.test/", { signal: waiting.signal });
  await expect.poll(() => heard).toBeDefined();
  waiting.abort(new Error("enough"));
  await expect(answer).rejects.toThrow("enough");
  await expect.poll(() => heard?.aborted).toBe(true);

  const { state, body } = endless();
  const reading = new AbortController();
  const response = await over(() => new Response(body)).fetch("http://e.test/", { signal: reading.signal });
  reading.abort(new Error("no more"));
  await expect(response.text()).rejects.toThrow("no more");
  await expect.poll(() => state.cancelled).toBe(true);
});

test("portFetch ends when the worker dies", async () => {
  let die: (reason: Error) => void = () => {};
  const death = new Promise<never>((_, reject) => (die = reject));
  const answer = over(() => NEVER, death).fetch("http://e.test/");
  die(new Error("the worker died"));
  await expect(answer).rejects.toThrow("the worker died");
});
