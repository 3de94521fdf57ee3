import { EngineError } from "@shoal/engine";
import { describe, expect, it } from "vitest";
import { FakeTerminal } from "../../test/fakeTerminal.ts";
import { EXIT } from "../exitCodes.ts";
import { Interrupts } from "../interrupts.ts";
import { type Line, type LineInput, PipedLines } from "./lineInput.ts";
import { type ReplOptions, runRepl } from "./repl.ts";
import { ChatStats } from "./stats.ts";

const timings = { promptTokens: 5, cachedTokens: 2, generatedTokens: 4, firstTokenMs: 100, decodeMs: 300 };

function piped(text: string): LineInput {
  return new PipedLines(new Blob([text]).stream());
}

function keyed(lines: readonly Line[]): LineInput {
  const left = [...lines];
  return { next: () => Promise.resolve(left.shift() ?? { kind: "end" }), close: () => Promise.resolve() };
}

function setUp(input: LineInput, more: Partial<ReplOptions> = {}) {
  const terminal = more.terminal instanceof FakeTerminal ? more.terminal : new FakeTerminal({});
  const log: string[] = [];
  const options: ReplOptions = {
    terminal,
    input,
    interrupts: new Interrupts(() => log.push("exit")),
    stats: new ChatStats(),
    contextTokens: 64,
    alwaysAsk: false,
    clear: () => log.push("clear"),
    answer: (text) => {
      log.push(text);
      terminal.out(`You said ${text}.`);
      return Promise.resolve({ ids: [1], text, finishReason: "stop", timings });
    },
    verbose: false,
    ...more,
  };
  return { terminal, log, run: () => runRepl(options), options };
}

describe("runRepl()", () => {
  it("answers line by line until the input ends", async () => {
    const { terminal, log, run } = setUp(piped("one\r\n\n two"));
    expect(await run()).toBe(EXIT.ok);
    expect(log).toEqual(["one", "two"]);
    expect(terminal.output).toBe("You said one.\nYou said two.\n");
  });

  it("asks as the demo does where it is told to", async () => {
    const { terminal, run } = setUp(piped("one\n/exit\ntwo\n"), { alwaysAsk: true });
    expect(await run()).toBe(EXIT.ok);
    expect(terminal.output).toBe(">>> You said one.\n>>> ");
  });

  it("clears, helps, shows numbers, and does not send misspelt commands to the model", async () => {
    const { terminal, log, run } = setUp(piped("/stats\none\n/stats\n/clear\n/help\n/claer\n/etc/passwd is what\n"));
    expect(await run()).toBe(EXIT.ok);
    expect(log).toEqual(["one", "clear", "/etc/passwd is what"]);
    expect(terminal.errors).toContain("Nothing generated yet");
    expect(terminal.errors).toContain(
      "4 tokens in 400 ms (10.0 tokens/s); first token after 100 ms (prompt of 5 tokens, 2 of them cached)",
    );
    expect(terminal.errors).toContain("Context: 9 of 64 tokens");
    expect(terminal.errors).toContain("/exit    leave");
    expect(terminal.errors).toContain("There is no command '/claer'");
  });

  it("leaves at the second interrupt in a row", async () => {
    const interrupt: Line = { kind: "interrupt" };
    expect(await setUp(keyed([interrupt, { kind: "line", text: "x" }, interrupt, interrupt])).run()).toBe(EXIT.interrupted);
    expect(await setUp(keyed([interrupt])).run()).toBe(EXIT.ok);
  });

  it("stops an answer at an interrupt and goes on", async () => {
    const { options, log, terminal } = setUp(piped("one\ntwo\n"));
    const answer: ReplOptions["answer"] = (text, signal) => {
      log.push(text);
      if (text === "two") return Promise.resolve({ ids: [], text, finishReason: "stop", timings });
      options.interrupts.interrupt();
      return Promise.reject(signal.reason as Error);
    };
    expect(await runRepl({ ...options, answer })).toBe(EXIT.ok);
    expect(log).toEqual(["one", "two"]);
    expect(terminal.errors).toContain("[stopped]");
  });

  it("ends when interrupted while it waits for a line", async () => {
    const { options, run } = setUp(new PipedLines(new ReadableStream()));
    const running = run();
    options.interrupts.interrupt();
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
  });

  it("keeps the conversation when a prompt is refused, and ends when the device is lost", async () => {
    const refuse: ReplOptions["answer"] = () => Promise.reject(new EngineError("prompt-too-long", "Cannot run the prompt: it is too long"));
    const { terminal, run } = setUp(piped("one\n"), { answer: refuse });
    expect(await run()).toBe(EXIT.ok);
    expect(terminal.errors).toContain("shoal: Cannot run the prompt: it is too long");
    const lost = Object.assign(new Error("Cannot go on: the GPU device was lost"), { name: "DeviceLostError" });
    await expect(setUp(piped("one\n"), { answer: () => Promise.reject(lost) }).run()).rejects.toBe(lost);
  });
});
