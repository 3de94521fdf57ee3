import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { GrammarClient } from "./client.ts";
import type { OutputGrammar } from "./grammar.ts";
import type { GrammarCall, GrammarPort, GrammarReply } from "./protocol.ts";

const VOCABULARY = { size: 64, tokens: [], marks: {}, stopTokenIds: [] };
const grammar = (pattern: string): OutputGrammar => ({ kind: "regex", pattern });

/** Places for grammars whose masks tell what they know; they answer when they are told to. */
class FakeThreads {
  readonly all: FakeThread[] = [];
  readonly spawn = (): GrammarPort => {
    const thread = new FakeThread();
    this.all.push(thread);
    return thread;
  };

  get last(): FakeThread {
    const thread = this.all.at(-1);
    if (!thread) throw new Error("no thread");
    return thread;
  }
}

class FakeThread implements GrammarPort {
  readonly calls: GrammarCall[] = [];
  readonly #ids = new Map<number, number[]>();
  ended = false;
  die: (reason: unknown) => void = () => {};
  #hear: (reply: GrammarReply) => void = () => {};

  send(call: GrammarCall): void {
    this.calls.push(structuredClone(call));
  }

  hear(onReply: (reply: GrammarReply) => void, onDeath: (reason: unknown) => void): void {
    this.#hear = onReply;
    this.die = onDeath;
  }

  end(): void {
    this.ended = true;
  }

  /** Answers the calls so far, or as many; the mask is of a session's tokens so far. */
  answer(count = this.calls.length, error?: GrammarReply["error"]): void {
    for (const call of this.calls.splice(0, count)) {
      if (call.kind === "open") this.#ids.set(call.session, [...call.ids]);
      if (call.kind === "accept") this.#ids.get(call.session)?.push(...call.ids);
      if (error) this.#hear({ error });
      else if (call.kind === "ahead")
        this.#hear({
          ahead: call.ids.map((_, index) => new Uint32Array([...(this.#ids.get(call.session) ?? []), ...call.ids.slice(0, index + 1)])),
        });
      else if (call.kind === "open" || call.kind === "accept") this.#hear({ mask: new Uint32Array(this.#ids.get(call.session) ?? [999]) });
      else this.#hear({});
    }
  }
}

function open(client: GrammarClient, pattern: string) {
  const heard: string[] = [];
  const session = client.open(grammar(pattern), {
    onMask: (mask) => heard.push(mask.join()),
    onAhead: (masks) => heard.push(`ahead ${masks.join(" ")}`),
    onError: (error) => heard.push(`${error.name}: ${error.message}`),
  });
  return { session, heard };
}

describe("GrammarClient", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("asks one thread for all, in order", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY });
    const [a, b] = [open(client, "a"), open(client, "b")];
    a.session.accept([]);
    b.session.accept([7]);
    threads.last.answer();
    a.session.accept([1]);
    threads.last.answer();
    a.session.close();
    a.session.accept([2]);
    b.session.accept([8]);
    threads.last.answer();
    expect(a.heard).toEqual(["", "1"]);
    expect(b.heard).toEqual(["7", "7,8"]);
    expect(threads.all).toHaveLength(1);
  });

  it("ends a thread that takes too long; who asked fails, the others go on in another with what they have chosen", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY, timeoutMs: 100 });
    const [idle, waiting, hostile] = [open(client, "idle"), open(client, "waiting"), open(client, "hostile")];
    for (const { session } of [idle, waiting]) session.accept([]);
    threads.last.answer();
    idle.session.accept([1]);
    threads.last.answer();
    hostile.session.accept([]);
    waiting.session.accept([2, 3]);
    const [first] = threads.all;
    vi.advanceTimersByTime(99);
    expect(first?.ended).toBe(false);
    vi.advanceTimersByTime(1);
    expect(first?.ended).toBe(true);
    expect(hostile.heard).toEqual([expect.stringMatching(/^EngineError: Cannot follow the grammar: it takes more than 0.1 s/)]);
    threads.last.answer();
    idle.session.accept([4]);
    threads.last.answer();
    // What the old thread says now is nobody's.
    first?.answer();
    expect(waiting.heard).toEqual(["", "2,3"]);
    expect(idle.heard).toEqual(["", "1", "1,4"]);
    expect(() => open(client, "hostile")).toThrow(expect.objectContaining({ code: "bad-request", field: "constraint" }));
  });

  it("looks ahead from the tokens so far; what comes of it after further ones is nobody's", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY });
    const { session, heard } = open(client, "a");
    session.accept([]);
    session.accept([1]);
    session.lookAhead([2, 3]);
    threads.last.answer();
    expect(heard).toEqual(["1", "ahead 1,2 1,2,3"]);
    session.lookAhead([4]);
    session.accept([5]);
    threads.last.answer();
    expect(heard.slice(2)).toEqual(["1,5"]);
  });

  it("looks ahead again in another thread where one ended before it answered", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY, timeoutMs: 100 });
    const [looking, hostile] = [open(client, "looking"), open(client, "hostile")];
    looking.session.accept([7]);
    threads.last.answer();
    hostile.session.accept([]);
    looking.session.lookAhead([8, 9]);
    vi.advanceTimersByTime(100);
    expect(hostile.heard).toHaveLength(1);
    threads.last.answer();
    expect(threads.all).toHaveLength(2);
    expect(looking.heard).toEqual(["7", "7", "ahead 7,8 7,8,9"]);
  });

  it("gives a thread longer to start than to answer", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY, timeoutMs: 100 });
    const one = open(client, "a");
    one.session.accept([]);
    vi.advanceTimersByTime(10_000);
    threads.last.answer(1);
    vi.advanceTimersByTime(90);
    threads.last.answer();
    expect(one.heard).toEqual([""]);
    vi.advanceTimersByTime(100_000);
    expect(threads.last.ended).toBe(false);
  });

  it("tells of a grammar that is none, and begins anew where the thread is of no use after it", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY });
    const good = open(client, "good");
    good.session.accept([]);
    threads.last.answer();
    for (const fatal of [false, true]) {
      const bad = open(client, `bad ${fatal}`);
      bad.session.accept([]);
      threads.last.answer(1, { message: "it is none", fatal });
      expect(bad.heard).toEqual(["EngineError: Cannot follow the grammar: it is none"]);
    }
    expect(threads.all.map(({ ended }) => ended)).toEqual([true]);
    good.session.accept([5]);
    expect(threads.all).toHaveLength(2);
    threads.last.answer();
    expect(good.heard).toEqual(["", "5"]);
  });

  it("ends every session with a thread that dies by itself", () => {
    const threads = new FakeThreads();
    const client = new GrammarClient({ spawn: threads.spawn, vocabulary: VOCABULARY });
    const one = open(client, "a");
    one.session.accept([]);
    threads.last.die("out of memory");
    expect(one.heard).toEqual([expect.stringContaining("its thread died, out of memory")]);
    const two = open(client, "a");
    two.session.accept([]);
    threads.last.answer();
    expect(two.heard).toEqual([""]);
  });
});
