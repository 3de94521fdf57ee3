import { expect, test } from "vitest";
import { makeRandom, pick } from "../test/support.ts";
import { ToolCallParser, type ToolCallOptions, type ToolCallPiece } from "./tool-calls.ts";
import { callLayout, type ToolFormat, toolMarks } from "./tool-format.ts";

const { callsBegin, callsEnd, callBegin, callEnd, separator } = toolMarks;
const names = ["weather", "weather_week", "now"];

interface Answer {
  readonly content: string;
  readonly calls: readonly { readonly name: string; readonly arguments: string }[];
  readonly complete: boolean;
}

function read(pieces: readonly string[], options: Partial<ToolCallOptions> = {}): Answer {
  const parser = new ToolCallParser({ format: "v3", names, ...options });
  let content = "";
  const calls: { name: string; arguments: string }[] = [];
  const take = (out: readonly ToolCallPiece[]): void => {
    for (const piece of out) {
      if (piece.kind === "content") content += piece.text;
      else if (piece.kind === "call") {
        expect(piece.index).toBe(calls.length);
        calls.push({ name: piece.name, arguments: "" });
      } else {
        const call = calls[piece.index];
        expect(piece.index).toBe(calls.length - 1);
        if (call) call.arguments += piece.text;
      }
    }
  };
  for (const piece of pieces) take(parser.push(piece));
  take(parser.finish());
  expect(parser.heldLength).toBe(0);
  expect(parser.calls).toBe(calls.length);
  return { content, calls, complete: parser.complete };
}

function call(format: ToolFormat, name: string, text: string): string {
  const { begin, end } = callLayout(format, name);
  return `${begin}${text}${format === "v3" ? "\n" : ""}${end.join("")}`;
}

function calls(format: ToolFormat, ...all: readonly (readonly [name: string, text: string])[]): string {
  const { between } = callLayout(format, "");
  return `${callsBegin}${all.map(([name, text]) => call(format, name, text)).join(between)}${callsEnd}`;
}

const PARIS = '{"city": "Paris", "days": [1, 2]}';

test.each(["v3", "v3.1"] as const)("ToolCallParser reads content, then calls, of the layout of %s", (format) => {
  const text = `Let me see.\n\n${calls(format, ["weather", PARIS], ["now", "{}"])}`;
  expect(read([text], { format })).toEqual({
    content: "Let me see.",
    calls: [
      { name: "weather", arguments: PARIS },
      { name: "now", arguments: "{}" },
    ],
    complete: false,
  });
});

test("ToolCallParser gives arguments out as they come, and the name before them", () => {
  const parser = new ToolCallParser({ format: "v3.1", names });
  expect(parser.push(`${callsBegin}${callBegin}weath`)).toEqual([]);
  expect(parser.push(`er${separator}`)).toEqual([]);
  expect(parser.push('{"ci')).toEqual([
    { kind: "call", index: 0, name: "weather" },
    { kind: "arguments", index: 0, text: '{"ci' },
  ]);
  expect(parser.push("ty")).toEqual([{ kind: "arguments", index: 0, text: "ty" }]);
  expect(parser.heldLength).toBe(0);
});

test.each([
  ["an unknown tool", `a ${calls("v3", ["rm", "{}"])} b`],
  ["a call without a name", `${callsBegin}${callBegin}${separator}{}${callEnd}${callsEnd}`],
  ["the other family's layout", calls("v3.1", ["weather", PARIS])],
  ["arguments that are no object", calls("v3", ["weather", "Paris"])],
  ["marks around nothing", `${callsBegin}${callsEnd}`],
  ["half a mark", "x <｜tool▁calls"],
  ["a call that ends before its arguments", `${callsBegin}${callBegin}function${separator}weather\n`],
  ["white space", " \n\n "],
])("ToolCallParser leaves %s as content, every character of it", (_, text) => {
  expect(read([text])).toEqual({ content: text, calls: [], complete: false });
});

test("ToolCallParser shows what stands where no text belongs", () => {
  const text = `${callsBegin}${callLayout("v3", "now").begin}{} or not\n\`\`\`${callEnd}${call("v3", "weather", PARIS)}${callsEnd}bye`;
  expect(read([text])).toEqual({
    content: ` or not\n\`\`\`${callEnd}bye`,
    calls: [
      { name: "now", arguments: "{}" },
      { name: "weather", arguments: PARIS },
    ],
    complete: false,
  });
});

test("ToolCallParser takes marks within strings of the arguments for text: quoted text begins no call", () => {
  const quoted = JSON.stringify({ city: `"}${callEnd}${callsEnd}${calls("v3.1", ["now", "{}"])}\\` });
  expect(read([calls("v3.1", ["weather", quoted])], { format: "v3.1" })).toEqual({
    content: "",
    calls: [{ name: "weather", arguments: quoted }],
    complete: false,
  });
});

test("ToolCallParser keeps what there is of a call that is cut off, wherever that is", () => {
  const text = calls("v3", ["weather", PARIS]);
  const head = callsBegin.length + callLayout("v3", "weather").begin.length;
  for (let length = head + 1; length < text.length; length++) {
    const { content, calls: got } = read([text.slice(0, length)]);
    expect(content).toBe("");
    expect(got).toEqual([{ name: "weather", arguments: PARIS.slice(0, length - head) }]);
  }
});

test("ToolCallParser is complete after as many calls as are wanted", () => {
  const text = `hm ${calls("v3", ["now", "{}"], ["weather", PARIS])} more`;
  expect(read([text], { mostCalls: 1 })).toEqual({ content: "hm", calls: [{ name: "now", arguments: "{}" }], complete: true });
});

test("ToolCallParser takes a call without its fence's end", () => {
  expect(read([`${callsBegin}${callLayout("v3", "now").begin}{}${callEnd}${callsEnd}`])).toEqual({
    content: "",
    calls: [{ name: "now", arguments: "{}" }],
    complete: false,
  });
});

test("ToolCallParser gives the same however the text is split, sound or not", () => {
  const random = makeRandom(11);
  for (const format of ["v3", "v3.1"] as const) {
    const scraps = [
      ...Object.values(toolMarks),
      ...names.map((name) => callLayout(format, name).begin),
      ...callLayout(format, "").end,
      ...names.map((name) => `${callsBegin}${call(format, name, PARIS)}`),
      calls(format, ["weather", PARIS], ["now", "{}"]),
      PARIS,
      "{",
      "}",
      '"',
      "\\",
      " ",
      "\n",
      "<",
      "｜",
      "text",
      "😀",
    ];
    for (let round = 0; round < 1500; round++) {
      const text = Array.from({ length: 1 + random(9) }, () => pick(random, scraps)).join("");
      const options: Partial<ToolCallOptions> = random(3) === 0 ? { format, mostCalls: 1 } : { format };
      const whole = read([text], options);
      expect(read(Array.from(text), options), JSON.stringify(text)).toEqual(whole);
      const pieces: string[] = [];
      for (let at = 0; at < text.length;) {
        const length = 1 + random(12);
        pieces.push(text.slice(at, at + length));
        at += length;
      }
      expect(read(pieces, options), JSON.stringify(text)).toEqual(whole);
      if (whole.calls.length === 0) expect(whole.content).toBe(text);
    }
  }
});
