import { describe, expect, it } from "vitest";
import { RunnerError, UsageError, messageOf } from "./errors.ts";
import { formatBytes, formatDuration, formatLimit, formatParameters, formatTable } from "./format.ts";
import { nearest } from "./nearest.ts";
import { Progress } from "./progress.ts";
import { FakeTerminal } from "../test/fakeTerminal.ts";

describe("messageOf()", () => {
  it("is one line without a stack trace", () => {
    expect(messageOf(new RunnerError("Cannot open 'x': it is gone"))).toBe("shoal: Cannot open 'x': it is gone");
  });

  it("names the kind of an error that is not ours", () => {
    expect(messageOf(new TypeError("x is not a function"))).toBe("shoal: Cannot go on: TypeError: x is not a function");
    expect(messageOf("oops")).toBe("shoal: Cannot go on: oops");
  });

  it("points to the help after wrong usage", () => {
    expect(messageOf(new UsageError("Cannot use '--x'", "chat"))).toBe("shoal: Cannot use '--x'\nSee 'shoal chat --help'");
  });

  it("says what helps against a prompt that is too long", () => {
    const error = Object.assign(new Error("Cannot run the prompt: it has 9 tokens, expected at most 8"), { code: "prompt-too-long" });
    expect(messageOf(error)).toContain("a larger --context");
  });

  it("shows the stack and its causes when asked to", () => {
    const error = new RunnerError("Cannot write", { cause: new Error("disk full") });
    expect(messageOf(error, true)).toMatch(/^shoal: Cannot write\n.*at .*caused by Error: disk full\n +at /s);
  });
});

describe("nearest()", () => {
  it("finds slips and cut words, and nothing far-fetched", () => {
    const names = ["temperature", "top-p", "top-k", "interactive"];
    expect(nearest("temprature", names)).toBe("temperature");
    expect(nearest("inter", names)).toBe("interactive");
    expect(nearest("topk", names)).toBe("top-k");
    expect(nearest("banana", names)).toBeUndefined();
  });
});

describe("formats", () => {
  it("shows bytes, limits, times and counts as people read them", () => {
    expect([0, 999, 31_600_000, 688_574_839_360].map(formatBytes)).toEqual(["0 B", "999 B", "31.6 MB", "689 GB"]);
    expect([16, 16384, 134_217_728, 2 ** 31 - 1].map(formatLimit)).toEqual(["16 B", "16 KiB", "128 MiB", "2 GiB"]);
    expect([3, 2345, 754_000].map(formatDuration)).toEqual(["3 ms", "2.3 s", "12 min 34 s"]);
    expect([671e9, 24.9e6, 12].map(formatParameters)).toEqual(["671 B", "24.9 M", "12"]);
    expect(
      formatTable([
        ["a", "bc"],
        ["def", "g"],
      ]),
    ).toBe("a    bc\ndef  g\n");
  });
});

describe("Progress", () => {
  it("draws over one line on a terminal and clears it at the end", () => {
    const terminal = new FakeTerminal({ errIsTerminal: true });
    let now = 0;
    const progress = new Progress(terminal, "Loading", () => now);
    for (now = 0; now <= 2000; now += 100) progress.update(now * 1000, 4_000_000);
    progress.end(() => "Loaded");
    expect(terminal.errors).not.toContain("Loading\n");
    expect(terminal.errors).toContain("[############............] 2.00 MB of 4.00 MB, 1.00 MB/s, 2.0 s left");
    expect(terminal.errors.endsWith("\rLoaded\n")).toBe(true);
  });

  it("writes a few plain lines elsewhere", () => {
    const terminal = new FakeTerminal({});
    let now = 0;
    const progress = new Progress(terminal, "Loading", () => now);
    for (now = 0; now <= 12_000; now += 100) progress.update(now * 1000, 20_000_000);
    progress.end();
    expect(terminal.errors.split("\n")).toEqual([
      "Loading",
      "Loading: 5.00 MB of 20.0 MB, 1.00 MB/s, 15.0 s left",
      "Loading: 10.0 MB of 20.0 MB, 1.00 MB/s, 10.0 s left",
      "",
    ]);
  });
});
