/** Requests that are wrong somewhere, from a seed: sound bodies with values replaced at any depth, with bytes changed, too deep, too large, or no requests at all. */

export interface Nonsense {
  readonly path: "/v1/chat/completions" | "/v1/completions";
  readonly body: Uint8Array<ArrayBuffer>;
}

type Random = (below: number) => number;

export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const FUNCTION = {
  name: "weather",
  description: "Tells the weather",
  strict: true,
  parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer", minimum: 1 } }, required: ["city"] },
};

/** Sound ones, with every field that may be wrong somewhere among them. */
const CHATS: readonly object[] = [
  { messages: [{ role: "user", content: "Hi" }], max_tokens: 2 },
  {
    model: "tiny",
    messages: [
      { role: "system", content: [{ type: "text", text: "Be brief." }] },
      { role: "user", content: "What is the weather?" },
      { role: "assistant", content: null, tool_calls: [{ id: "a", type: "function", function: { name: "weather", arguments: "{}" } }] },
      { role: "tool", content: "rain", tool_call_id: "a" },
      { role: "assistant", content: "It", prefix: true, reasoning_content: "Hm." },
    ],
    max_completion_tokens: 2,
    tools: [
      { type: "function", function: FUNCTION },
      { type: "function", function: { name: "now" } },
    ],
    tool_choice: { type: "function", function: { name: "weather" } },
    parallel_tool_calls: false,
    stream: true,
    stream_options: { include_usage: true },
  },
  {
    messages: [{ role: "user", content: "Hi", name: "kate" }],
    max_tokens: 2,
    temperature: 1,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.1,
    frequency_penalty: 1,
    presence_penalty: 1,
    repetition_penalty: 1.1,
    logit_bias: { "7": 1 },
    seed: 1,
    stop: ["x", "y"],
    stop_token_ids: [3],
    n: 2,
    logprobs: true,
    top_logprobs: 2,
    user: "kate",
    metadata: { a: "b" },
    thinking: { type: "disabled" },
    chat_template_kwargs: { a: 1 },
    response_format: { type: "json_schema", json_schema: { name: "a", schema: FUNCTION.parameters, strict: true } },
  },
];
const COMPLETIONS: readonly object[] = [
  { prompt: "Hi", max_tokens: 2 },
  { prompt: [5, 9], max_tokens: 2, echo: true, logprobs: 1, best_of: 1, n: 1, stop: "x", logit_bias: { "7": 1 } },
  { prompt: ["Hi", "Ho"], max_tokens: 2, suffix: "end", structured_outputs: { regex: "a+" }, stream: true, stream_options: {} },
  { prompt: [[5], [6]], max_tokens: 2, temperature: 0, structured_outputs: { json: { anyOf: [{ type: "null" }] } } },
];

/** One JSON text a line. */
const lines = (text: string): readonly string[] => text.trim().split(/\s*\n\s*/);

/** As JSON text, since much of it no value stands for. */
const VALUES: readonly string[] = [
  ...lines(String.raw`
    {"-1":1}
    {"99999":200}
    {"7":1e400}
    {"__proto__":{"x":1}}
    {"":""}
    {"a b.c[0]":1}
    {"constructor":null}
    "martian"
    {"role":"user"}
    [{"role":"martian","content":"x"}]
    [{"role":"user","content":{"deep":[1]}}]
    ""
    "text"
    [{"role":"user","content":[{"type":"image_url"}]}]
    [{"role":"tool","content":"x"}]
    [{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"a","arguments":"{"}}]},{"role":"tool","content":"x"}]
    "required"
    "<｜begin▁of▁sentence｜><｜tool▁calls▁begin｜>"
    "\ud800"
    "\u0000"
    "\uffff\u202e"
  `),
  ..."null true false 0 -0 -1 0.5 1e308 -1e308 1e400 -1e400 1e-400 9007199254740993 2147483648".split(" "),
  ...'[] {} [[]] [null] [{}] [""] [1.5] [-1] [99999] [[[[[1]]]]]'.split(" "),
  "9".repeat(400),
  JSON.stringify("x".repeat(5000)),
  `[${"0,".repeat(3000)}0]`,
];

/** What stands for a schema: of wrong kinds, recursive, contradictory, enormous. */
const SCHEMAS: readonly string[] = [
  ...lines(String.raw`
    {"enum":[]}
    {"enum":{}}
    {"anyOf":[]}
    {"anyOf":[3]}
    {"allOf":[{"type":"string"},{"type":"null"}]}
    {"oneOf":{}}
    {"$ref":"#"}
    {"$ref":"#/$defs/x"}
    {"$ref":7}
    {"$ref":"https://example.com"}
    {"$defs":{"x":{"$ref":"#/$defs/x"}}}
    {"type":"array","minItems":9,"maxItems":1}
    {"type":"array","minItems":1e400}
    {"minLength":1e9,"type":"string"}
    {"type":"integer","minimum":1e400}
    {"type":"integer","minimum":5,"maximum":1}
    {"type":"string","pattern":"((("}
    {"type":"string","pattern":"(a+)+$"}
    {"const":null}
    {"not":{}}
    {"additionalProperties":5}
    {"if":1,"then":2}
    {"required":["__proto__"],"type":"object"}
    {"properties":{"__proto__":{"type":"null"},"":{"type":"null"}}}
    {"$ref":"#/$defs/x","$defs":{"x":{"$ref":"#/$defs/y"},"y":{"$ref":"#/$defs/x"}}}
    {"type":"object","properties":{"b":{"$ref":"#"}},"required":["b"]}
    {"type":"object","properties":{"b":{"$ref":"#"}}}
    {"type":"array","items":{"$ref":"#"}}
    {"type":"array","prefixItems":{},"minItems":-1}
    {"properties":{"\ud800":{"type":"string"},"\"":{"type":"null"}},"required":["\ud800"]}
    {"enum":["\ud800","\u0000"]}
  `),
  ...'3 "no" [] false {"type":5} {"type":[]} {"type":"martian"} {"properties":7} {"required":[{}]}'.split(" "),
  `{"properties":{${Array.from({ length: 2100 }, (_, i) => `"p${i}":{"type":"null"}`).join(",")}}}`,
  `{"description":${JSON.stringify("x".repeat(70_000))}}`,
  `{"enum":[${Array.from({ length: 2000 }, (_, i) => i).join(",")}]}`,
  '{"items":'.repeat(28) + "{}" + "}".repeat(28),
];
const AROUND_SCHEMA: readonly ((schema: string) => string)[] = [
  (schema) => `"response_format":{"type":"json_schema","json_schema":{"schema":${schema},"strict":true}}`,
  (schema) => `"response_format":{"type":"json_schema","json_schema":{"schema":${schema}}}`,
  (schema) => `"structured_outputs":{"json":${schema}}`,
  (schema) => `"structured_outputs":{"json":${JSON.stringify(schema)}}`,
  (schema) => `"tools":[{"type":"function","function":{"name":"a","parameters":${schema},"strict":true}}]`,
  (schema) => `"tools":[{"type":"function","function":{"name":"a","parameters":${schema}}}],"tool_choice":"required"`,
  (schema) => `"tools":[{"type":"function","function":{"name":"a","parameters":${schema}}}]`,
];
const PATTERNS: readonly string[] = [
  ...lines(String.raw`
    {"regex":"((("}
    {"regex":"a{1,100000}"}
    {"regex":"[z-a]"}
    {"regex":"\\p{No}"}
    {"regex":"(?<=a)b"}
    {"regex":"\u0000"}
    {"grammar":"root ::="}
    {"grammar":"root ::= root"}
    {"grammar":"x ::= \"a\""}
    {"grammar":"\ud800"}
    {"choice":[]}
    {"choice":["a",1]}
    {"choice":["\ud800"]}
    {"regex":"a","grammar":"b"}
    {}
  `),
];

const encoder = new TextEncoder();
const pick = <T>(random: Random, [first, ...rest]: readonly [T, ...T[]] | readonly T[]): T =>
  [first, ...rest][random(rest.length + 1)] as T;

export function nonsense(random: Random): Nonsense {
  const path = random(3) === 0 ? "/v1/completions" : "/v1/chat/completions";
  const sound = pick(random, path === "/v1/completions" ? COMPLETIONS : CHATS);
  const first = JSON.stringify(path === "/v1/completions" ? COMPLETIONS[0] : CHATS[0]).slice(1);
  const of = (text: string): Nonsense => ({ path, body: encoder.encode(text) });
  switch (random(20)) {
    case 0:
      return { path, body: Uint8Array.from({ length: random(60) }, () => random(256)) };
    case 1:
      return of(pick(random, [...VALUES, "", "{", "[", '{"messages":', " ", "\ufeff{}", "{}{}", "{'messages':[]}"]));
    case 2:
      return of(tooDeep(random, first));
    case 3:
    case 4:
    case 5:
      return { path, body: spoiled(random, encoder.encode(JSON.stringify(sound))) };
    case 6:
    case 7:
      return of(`{${pick(random, AROUND_SCHEMA)(pick(random, SCHEMAS))},${first}`);
    case 8:
      return of(`{"structured_outputs":${pick(random, PATTERNS)},${first}`);
    default:
      return of(replaced(random, sound));
  }
}

/** 100,000 levels in a field, of objects or arrays, closed or cut off; or a few, which are too many all the same. */
function tooDeep(random: Random, first: string): string {
  const levels = pick(random, [33, 200, 100_000]);
  const [open, close] = pick(random, [
    ["[", "]"],
    ['{"a":', "}"],
    ['[{"a":', "}]"],
  ] as const);
  const deep = open.repeat(levels) + (random(4) === 0 ? "" : `1${close.repeat(levels)}`);
  const field = pick(random, ["messages", "prompt", "metadata", "tools", "response_format", "unknown", String.raw`\u0073top`]);
  return random(6) === 0 ? deep : `{"${field}":${deep},${first}`;
}

/** Some bytes are others: JSON no more, UTF-8 no more, or another text. */
function spoiled(random: Random, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  for (let changes = 1 + random(3); changes > 0; changes--) bytes[random(bytes.length)] = random(2) === 0 ? 128 + random(128) : random(128);
  return random(8) === 0 ? bytes.slice(0, random(bytes.length)) : bytes;
}

/** One to three values at any depth are others, or have another name, or are gone. */
function replaced(random: Random, sound: object): string {
  const body = structuredClone(sound) as Record<string, unknown>;
  const raw: string[] = [];
  for (let changes = 1 + random(3); changes > 0; changes--) {
    let place: Record<string, unknown> = body;
    for (;;) {
      const keys = Object.keys(place);
      if (keys.length === 0) break;
      const key = pick(random, keys);
      const inside = place[key];
      if (typeof inside === "object" && inside !== null && random(3) > 0) {
        place = inside as Record<string, unknown>;
        continue;
      }
      const mark = `@${raw.length}@`;
      const how = random(12);
      if (how === 0 && !Array.isArray(place)) delete place[key];
      else if (how === 1 && !Array.isArray(place)) place[pick(random, ["", "constructor", "a.b", "x".repeat(300), "temprature"])] = mark;
      else place[key] = mark;
      raw.push(pick(random, [...VALUES, ...SCHEMAS.slice(0, 20)]));
      break;
    }
  }
  return raw.reduce((text, value, i) => text.replace(`"@${i}@"`, () => value), JSON.stringify(body));
}
