/** Tools and constrained output through the API, over an engine that answers with a known text. */
import { toolMarks } from "@shoal/tokenizer";
import { describe, expect, it } from "vitest";
import { createApi } from "../src/mod.ts";
import type { ChatCompletion, ChatCompletionChunk, ToolCall } from "../src/schemas/answers.ts";
import { FakeEngine } from "./fakeEngine.ts";
import { loadTinyTokenizer } from "./tinyTokenizer.ts";

const { tokenizer, template } = loadTinyTokenizer();
const { callsBegin, callsEnd, callBegin, callEnd, separator } = toolMarks;
const model = { id: "tiny", vocabSize: 4096, stopTokenIds: [1], recommended: null, created: 0 };

const call = (name: string, text: string): string => `${callBegin}function${separator}${name}\n\`\`\`json\n${text}\n\`\`\`${callEnd}`;
const TWO = `Let me look.\n\n${callsBegin}${call("weather", '{"city": "Paris"}')}\n${call("now", "{}")}${callsEnd}`;
const TOOLS = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "Tells the weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
  { type: "function", function: { name: "now", strict: true } },
];
const CHAT = { messages: [{ role: "user", content: "Hi" }] };

function open(answer: string) {
  const engine = new FakeEngine(tokenizer.encode(answer, { allowControlTokens: false }), "stop");
  const api = createApi({ engine, tokenizer, template, model });
  const post = (body: object, path = "/v1/chat/completions"): Promise<Response> =>
    api(
      new Request(`http://localhost${path}`, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    );
  const prompt = (): string => tokenizer.decode(engine.requests.at(-1)?.promptIds ?? []);
  return { engine, post, prompt };
}

async function whole(response: Promise<Response>): Promise<ChatCompletion["choices"][number]> {
  const body = (await (await response).json()) as ChatCompletion;
  const [choice] = body.choices;
  if (!choice) throw new Error(JSON.stringify(body));
  return choice;
}

async function refusal(response: Promise<Response>): Promise<string> {
  const { status, ...rest } = await response.then(async (answer) => ({ status: answer.status, ...((await answer.json()) as object) }));
  expect(status).toBe(400);
  return (rest as { error: { param: string } }).error.param;
}

/** A stream's deltas put together, as clients do it. */
async function streamed(response: Promise<Response>) {
  const calls: ToolCall[] = [];
  let content = "";
  let reason: string | null = null;
  let pieces = 0;
  for (const event of (await (await response).text()).split("\n\n").filter((text) => text.startsWith("data: {"))) {
    const [choice] = (JSON.parse(event.slice(6)) as ChatCompletionChunk).choices;
    content += choice?.delta.content ?? "";
    reason = choice?.finish_reason ?? reason;
    for (const { index, id, function: part } of choice?.delta.tool_calls ?? []) {
      pieces++;
      const known = calls[index];
      if (known) known.function.arguments += part.arguments;
      else calls[index] = { id: id ?? "", type: "function", function: { name: part.name ?? "", arguments: part.arguments } };
    }
  }
  return { content, calls, reason, pieces };
}

describe("tools", () => {
  it("are shown to the model, and its calls come apart from the text, whole and streamed", async () => {
    const { post, prompt } = open(TWO);
    const { message, finish_reason } = await whole(post({ ...CHAT, tools: TOOLS }));
    expect(prompt()).toContain('{"name": "weather", "description": "Tells the weather"');
    expect(message.content).toBe("Let me look.");
    expect(message.tool_calls?.map((one) => one.function)).toEqual([
      { name: "weather", arguments: '{"city": "Paris"}' },
      { name: "now", arguments: "{}" },
    ]);
    expect(new Set(message.tool_calls?.map(({ id }) => id)).size).toBe(2);
    expect(finish_reason).toBe("tool_calls");
    const stream = await streamed(post({ ...CHAT, tools: TOOLS, stream: true }));
    expect(stream.calls.map((one) => one.function)).toEqual(message.tool_calls?.map((one) => one.function));
    expect(stream).toMatchObject({ content: "Let me look.", reason: "tool_calls" });
    // A name, and arguments in pieces, of each.
    expect(stream.pieces).toBeGreaterThan(6);
  });

  it("may be one call at most, and then the engine stops there", async () => {
    const { post, engine } = open(TWO);
    const { message, finish_reason } = await whole(post({ ...CHAT, tools: TOOLS, parallel_tool_calls: false }));
    expect(message.tool_calls?.map((one) => one.function.name)).toEqual(["weather"]);
    expect(finish_reason).toBe("tool_calls");
    expect(engine.running).toBe(0);
  });

  it("that are not there, or not to be called, leave the text as it is", async () => {
    const { post, prompt } = open(TWO);
    for (const more of [{}, { tools: TOOLS, tool_choice: "none" }, { tools: TOOLS.slice(0, 0) }]) {
      const { message, finish_reason } = await whole(post({ ...CHAT, ...more }));
      expect(message).toEqual({ role: "assistant", content: TWO });
      expect(finish_reason).toBe("stop");
      expect(prompt()).not.toContain("weather");
    }
    const unknown = await whole(post({ ...CHAT, tools: [{ type: "function", function: { name: "other" } }] }));
    expect(unknown.message.content).toBe(TWO);
  });

  it("do not have their arguments cut by stop strings", async () => {
    const { post } = open(TWO);
    const { message } = await whole(post({ ...CHAT, tools: TOOLS, stop: ["Paris"] }));
    expect(message.tool_calls?.[0]?.function.arguments).toBe('{"city": "Paris"}');
  });

  it("give results in the order of the calls, whatever the order of the messages", async () => {
    const { post, prompt } = open("Fine.");
    const asked = {
      role: "assistant",
      content: null,
      tool_calls: ["a", "b"].map((id) => ({ id, type: "function", function: { name: "now", arguments: "{}" } })),
    };
    const result = (id: string) => ({ role: "tool", tool_call_id: id, content: `result ${id}` });
    await whole(post({ messages: [...CHAT.messages, asked, result("b"), result("a")] }));
    expect(prompt()).toContain(`result a<｜tool▁output▁end｜>\n<｜tool▁output▁begin｜>result b<｜tool▁output▁end｜><｜tool▁outputs▁end｜>`);
    expect(await refusal(post({ messages: [...CHAT.messages, asked, result("c")] }))).toBe("messages[2].tool_call_id");
    expect(await refusal(post({ messages: [...CHAT.messages, result("a")] }))).toBe("messages[1].role");
  });

  it("that must be called constrain the whole answer, and strict ones what the model calls by itself", async () => {
    const { post, engine } = open("Fine.");
    const constraint = async (more: object) => {
      await post({ ...CHAT, tools: TOOLS, ...more });
      return engine.requests.at(-1)?.constraint;
    };
    const required = await constraint({ tool_choice: "required" });
    expect(required?.after).toEqual([]);
    expect(JSON.stringify(required?.grammar)).toContain('"kind":"list"');
    const named = JSON.stringify(await constraint({ tool_choice: { type: "function", function: { name: "weather" } } }));
    expect(named).toContain("city");
    expect(named).not.toContain("now");
    expect(named).not.toContain('"kind":"list"');
    expect(JSON.stringify(await constraint({ tool_choice: "required", parallel_tool_calls: false }))).not.toContain('"kind":"list"');
    const auto = await constraint({});
    expect(auto?.after).toEqual([callsBegin]);
    expect(JSON.stringify(auto?.grammar)).toContain("json-object");
    expect(await constraint({ tools: TOOLS.slice(0, 1) })).toBeUndefined();
    const either = await constraint({ response_format: { type: "json_object" } });
    expect(either).toMatchObject({ grammar: { kind: "either" }, after: [] });
  });

  it.each<readonly [object, string]>([
    [{ tool_choice: "required" }, "tool_choice"],
    [{ tools: TOOLS, tool_choice: { type: "function", function: { name: "other" } } }, "tool_choice.function.name"],
    [{ tools: [TOOLS[1], TOOLS[1]] }, "tools[1].function.name"],
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools[0].function.name"],
    [{ tools: [{ type: "function", function: { name: "a", parameters: [] } }] }, "tools[0].function.parameters"],
    [
      { tools: [{ type: "function", function: { name: "a", parameters: { type: "array" } } }], tool_choice: "required" },
      "tools[0].function.parameters.type",
    ],
    [
      { tools: [TOOLS[1], { type: "function", function: { name: "a", strict: true, parameters: { properties: { b: { not: {} } } } } }] },
      "tools[1].function.parameters.properties.b.not",
    ],
    [
      { response_format: { type: "json_schema", json_schema: { strict: true, schema: { multipleOf: 2 } } } },
      "response_format.json_schema.schema.multipleOf",
    ],
    [{ response_format: { type: "json_schema", json_schema: { schema: { type: "date" } } } }, "response_format.json_schema.schema.type"],
    [{ response_format: { type: "json_schema" } }, "response_format.json_schema"],
    [{ response_format: { type: "xml" } }, "response_format.type"],
    [{ structured_outputs: {} }, "structured_outputs"],
    [{ structured_outputs: { regex: "a", grammar: "b" } }, "structured_outputs"],
    [{ structured_outputs: { json: "{" } }, "structured_outputs.json"],
    [{ structured_outputs: { json: { enum: [] } } }, "structured_outputs.json.enum"],
    [{ structured_outputs: { regex: "a" }, response_format: { type: "json_object" } }, "structured_outputs"],
    [{ structured_outputs: { regex: "a".repeat(5000) } }, "structured_outputs.regex"],
    [{ chat_template_kwargs: { thinking: {} } }, "chat_template_kwargs.thinking"],
  ])("refuse what is wrong (%#), naming the field", async (more, field) => {
    const { post } = open("Fine.");
    expect(await refusal(post({ ...CHAT, ...more }))).toBe(field);
  });
});

describe("constrained output", () => {
  it("is handed to the engine, for chats and completions", async () => {
    const { post, engine } = open('{"a": 1}');
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"], additionalProperties: false };
    await whole(post({ ...CHAT, response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } }));
    expect(engine.requests.at(-1)?.constraint).toEqual({ grammar: { kind: "json-schema", schema: JSON.stringify(schema) }, after: [] });
    await whole(post({ ...CHAT, response_format: { type: "json_object" } }));
    expect(engine.requests.at(-1)?.constraint).toEqual({ grammar: { kind: "json-object" }, after: [] });
    for (const [given, grammar] of [
      [{ regex: "a+" }, { kind: "regex", pattern: "a+" }],
      [{ grammar: 'root ::= "a"' }, { kind: "ebnf", text: 'root ::= "a"' }],
      [
        { choice: ["yes", "no"] },
        {
          kind: "either",
          parts: [
            { kind: "text", text: "yes" },
            { kind: "text", text: "no" },
          ],
        },
      ],
      [{ json: JSON.stringify(schema) }, { kind: "json-schema", schema: JSON.stringify(schema) }],
    ] as const) {
      await post({ prompt: "Hi", structured_outputs: given }, "/v1/completions");
      expect(engine.requests.at(-1)?.constraint).toEqual({ grammar });
    }
  });

  it("says which field the engine's complaint is about", async () => {
    const { post, engine } = open("");
    engine.refusal = Object.assign(new Error("Cannot follow the grammar: it is none"), {
      name: "EngineError",
      code: "bad-request",
      field: "constraint",
    });
    expect(await refusal(post({ ...CHAT, structured_outputs: { regex: "(" } }))).toBe("structured_outputs.regex");
    expect(await refusal(post({ ...CHAT, structured_outputs: { regex: "(" }, stream: true }))).toBe("structured_outputs.regex");
    expect(await refusal(post({ ...CHAT, tools: TOOLS, tool_choice: "required" }))).toBe("tools");
  });
});
