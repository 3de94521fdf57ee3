/** What a client may take of a server, and for how long. */
import { describe, expect, it, vi } from "vitest";
import { CHAT, type Failure, TEXT, events, open, post } from "./opened.ts";

describe("the limits", () => {
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

  it("gives a stream that nobody reads up after its time, and is free for others", async () => {
    const { api, engine, records } = open({ limits: { timeoutMs: 20, maxPerClient: 1 } });
    const response = await api(post(JSON.stringify({ ...CHAT, stream: true })));
    await vi.waitFor(() => expect(records.map(({ status }) => status)).toEqual([408]), { timeout: 20_000 });
    expect(engine.running).toBe(0);
    await expect(response.text()).rejects.toMatchObject({ code: "request_timeout" });
    expect((await api(post(JSON.stringify(CHAT)))).status).toBe(200);
  });

  it("tells a reader when a stream takes too long, and why", async () => {
    const { api, engine, records } = open({ limits: { timeoutMs: 40 } });
    engine.pause = () => new Promise((resolve) => setTimeout(resolve, 15));
    const text = await (await api(post(JSON.stringify({ ...CHAT, stream: true })))).text();
    expect(events(text).at(-1)).toMatchObject({ error: { code: "request_timeout" } });
    expect(records.map(({ status }) => status)).toEqual([408]);
  });

  it("keeps a silent stream open by comments", async () => {
    const { api, engine } = open({ limits: { keepAliveMs: 5 } });
    let paused = false;
    engine.pause = async () => {
      if (!paused) await new Promise((resolve) => setTimeout(resolve, 40));
      paused = true;
    };
    const text = await (await api(post(JSON.stringify({ ...CHAT, stream: true })))).text();
    expect(text).toContain(": keep-alive\n\n");
    // Comments stand between events, never in one.
    for (const part of text.trimEnd().split("\n\n")) expect(part).toMatch(/^(: keep-alive|data: (\{.*\}|\[DONE\]))$/);
    const pieces = events(text) as readonly { readonly choices: readonly { readonly delta: { readonly content?: string } }[] }[];
    expect(pieces.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(TEXT);
  });

  it("does not wait for ever for a body", async () => {
    const { api, records } = open({ limits: { bodyTimeoutMs: 20 } });
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode('{"messages":')),
      cancel: () => void (cancelled = true),
    });
    const init = { method: "POST", body, headers: { "content-type": "application/json" }, duplex: "half" };
    const response = await api(new Request("http://localhost/v1/chat/completions", init));
    expect(response.status).toBe(408);
    expect(cancelled).toBe(true);
    expect(records.map(({ status }) => status)).toEqual([408]);
  });

  it("stops reading a body that grows too long, whatever it said of its length", async () => {
    const { api } = open({ limits: { maxBodyBytes: 1000 } });
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 400;
        controller.enqueue(new Uint8Array(400).fill(32));
      },
    });
    const init = { method: "POST", body, headers: { "content-type": "application/json" }, duplex: "half" };
    expect((await api(new Request("http://localhost/v1/chat/completions", init))).status).toBe(413);
    expect(sent).toBeLessThan(4000);
  });

  it("refuses what its queue has no place for, with the time to come back", async () => {
    const { api, engine } = open({ limits: { maxQueue: 1 } });
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    engine.pause = () => held;
    const places = engine.status().maxSequences + 1;
    const taken = Array.from({ length: places }, (_, i) => api(post(JSON.stringify(CHAT)), { client: `${i}` }));
    await vi.waitFor(() => expect(engine.running).toBe(places));
    const refused = await api(post(JSON.stringify(CHAT)), { client: "late" });
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(((await refused.json()) as Failure).error).toMatchObject({ type: "rate_limit_error", code: "queue_full" });
    release();
    for (const answer of taken) expect((await answer).status).toBe(200);
  });
});
