/** Grammars on the embedded model's vocabulary, with tokens chosen at random among those allowed: whatever a model prefers, what comes out must follow. */
import { readFileSync } from "node:fs";
import { tinyModelUrl } from "@shoal/tiny-model";
import { loadTokenizer } from "@shoal/tokenizer";
import { Ajv2020 as Ajv } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, it } from "vitest";
import type { OutputGrammar } from "./grammar.ts";
import { Grammars } from "./grammars.ts";
import { enforceableSchema } from "./schema.ts";
import { vocabularyOf } from "./vocabulary.ts";

const text = (name: string): string => readFileSync(new URL(name, tinyModelUrl), "utf8");
const file = JSON.parse(text("tokenizer.json")) as { added_tokens: unknown[] };
file.added_tokens.push({ id: 4096, content: "<｜begin｜>", normalized: true }, { id: 4097, content: "<｜end｜>", normalized: true });
const tokenizer = loadTokenizer({ tokenizerJson: JSON.stringify(file), tokenizerConfigJson: text("tokenizer_config.json") });
const EOS = 1;
const SIZE = 4200;
const vocabulary = vocabularyOf(tokenizer, { size: SIZE, stopTokenIds: [EOS], marks: ["<｜begin｜>", "<｜end｜>", "<｜absent｜>"] });

function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function idsOf(mask: Uint32Array): readonly number[] {
  return Array.from({ length: SIZE }, (_, id) => id).filter((id) => ((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1);
}

describe("Grammars", () => {
  let grammars: Grammars;
  let session = 0;

  beforeAll(async () => {
    grammars = new Grammars();
    expect(await grammars.answer({ kind: "vocabulary", vocabulary })).toEqual({});
  });

  async function mask(call: Parameters<Grammars["answer"]>[0]): Promise<readonly number[]> {
    const { mask, error } = await grammars.answer(call);
    if (!mask) throw new Error(error?.message);
    expect(mask).toHaveLength(Math.ceil(SIZE / 32));
    return idsOf(mask);
  }

  /** An answer of random tokens; the shorter ones are preferred after a while, so that it ends. */
  async function write(grammar: OutputGrammar, random: (below: number) => number): Promise<readonly number[]> {
    const number = session++;
    const ids: number[] = [];
    let allowed = await mask({ kind: "open", session: number, grammar, ids: [] });
    for (let step = 0; step < 600; step++) {
      // Bytes by themselves: a class lets some through that make no character, and no model writes those.
      const whole = allowed.filter((id) => id === EOS || id >= 4096 || !tokenizer.decode([id]).includes("\ufffd"));
      if (whole.length > 0) allowed = whole;
      const closing = allowed.filter((id) => id === EOS || /^["}\]0-9!é]/.test(tokenizer.decode([id])));
      const from = step > 12 && closing.length > 0 ? closing : allowed;
      const id = allowed.includes(EOS) && random(3) > 0 ? EOS : (from[random(from.length)] ?? EOS);
      if (id === EOS) {
        expect(allowed).toContain(EOS);
        await grammars.answer({ kind: "close", session: number });
        return ids;
      }
      ids.push(id);
      allowed = await mask({ kind: "accept", session: number, ids: [id] });
    }
    throw new Error(`no end: ${tokenizer.decode(ids).slice(0, 500)}`);
  }

  const FIRST = { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } }, required: ["city", "days"] };

  /** What is enforced of each, in strict mode: all of it. */
  const EXACT: readonly object[] = [
    FIRST,
    {
      type: "object",
      properties: { unit: { enum: ["c", "f", 3, null] }, on: { type: "boolean" }, at: { const: { a: [1, '"\\\n\u0001é'] } } },
      required: ["at"],
    },
    { type: "object", properties: { "é'[": { type: "null" }, 'a"\\': { type: "null" } }, required: ["é'["], additionalProperties: true },
    { type: "array", items: { type: "number" }, minItems: 1, maxItems: 4 },
    {
      anyOf: [
        { type: "string", maxLength: 5 },
        { type: "array", prefixItems: [{ type: "null" }, { type: "boolean" }], items: false, minItems: 2 },
      ],
    },
    {
      $ref: "#/$defs/tree",
      $defs: { tree: { type: "object", properties: { leaf: { type: "boolean" }, next: { $ref: "#/$defs/tree" } }, required: ["leaf"] } },
    },
    { type: "string", pattern: "^[A-Z]{2}-\\d{3}$" },
    { type: "string", pattern: '^a.\\S[^b-d]"\\\\\\.\\W+$' },
    { type: "string", minLength: 2, maxLength: 4 },
    { type: ["integer", "null"], exclusiveMinimum: -3.5, maximum: 12.2 },
    { minimum: 3, type: "integer" },
    { type: "object", additionalProperties: { type: "integer" }, minProperties: 1, maxProperties: 2 },
    { type: "object", properties: { a: { type: "null" } }, required: ["a", "b"] },
    { enum: ["a", 1, null, 2.5], type: ["integer", "null"] },
    {
      oneOf: [
        { type: "object", properties: { kind: { const: "a" } }, required: ["kind"] },
        { type: "object", properties: { kind: { const: "b" }, n: { type: "null" } }, required: ["kind", "n"] },
      ],
    },
    { prefixItems: [{ type: "null" }], minItems: 2 },
    { type: "string", format: "uuid" },
    { type: "object" },
    { properties: { a: { allOf: [{ $ref: "#/definitions/b" }], title: "A" } }, required: ["a"], definitions: { b: { type: "boolean" } } },
    {},
  ];

  it("write JSON that follows its schema, whatever tokens are chosen", async () => {
    const ajv = new Ajv({ strict: false, validateFormats: false });
    const random = randomOf(3);
    for (const schema of EXACT) {
      const valid = ajv.compile(schema);
      const enforced = JSON.stringify(enforceableSchema(schema as Record<string, unknown>, { field: "schema", strict: true }));
      for (const compact of [true, false]) {
        for (let round = 0; round < (compact ? 2 : 1); round++) {
          const written = tokenizer.decode(await write({ kind: "json-schema", schema: enforced, compact }, random));
          expect(valid(JSON.parse(written)), `${written} against ${JSON.stringify(schema)}`).toBe(true);
        }
      }
    }
    const any: unknown = JSON.parse(tokenizer.decode(await write({ kind: "json-object" }, random)));
    expect(any).toBeTypeOf("object");
  });

  it.each<readonly [object, string]>([
    [{ type: "number", minimum: 2.5, maximum: 3 }, "schema.minimum"],
    [{ type: "integer", multipleOf: 5 }, "schema.multipleOf"],
    [{ type: "string", pattern: "(?=a)b" }, "schema.pattern"],
    [{ type: "string", pattern: "^a$|b" }, "schema.pattern"],
    [{ type: "string", pattern: '["]' }, "schema.pattern"],
    [{ type: "string", pattern: "a+", minLength: 3 }, "schema.minLength"],
    [{ type: "string", format: "email" }, "schema.format"],
    [{ type: "array", items: { enum: [1, 2] }, uniqueItems: true }, "schema.uniqueItems"],
    [{ type: "array", contains: { type: "null" }, minItems: 1 }, "schema.contains"],
    [{ type: "object", properties: { a: { not: { type: "string" } } }, required: ["a"] }, "schema.properties.a.not"],
    [{ if: { type: "string" }, else: { minimum: 3 } }, "schema.if"],
    [{ oneOf: [{ type: "integer" }, { type: "number" }] }, "schema.oneOf"],
    [
      {
        allOf: [
          { type: "integer", minimum: 1 },
          { type: "integer", maximum: 9 },
        ],
      },
      "schema.allOf",
    ],
    [{ anyOf: [{ required: ["a"] }, { required: ["b"] }], properties: { a: { type: "null" } } }, "schema.properties"],
    [{ $ref: "#/$defs/a", minimum: 5, $defs: { a: { type: "integer" } } }, "schema.minimum"],
    [{ type: "object", propertyNames: { pattern: "^a" } }, "schema.propertyNames"],
    [{ type: "object", properties: { a: {} }, dependentRequired: { a: ["b"] } }, "schema.dependentRequired"],
    [{ type: "object", patternProperties: { "^a": { type: "integer" } } }, "schema.patternProperties"],
  ])("write JSON for %j without what cannot be enforced, which strict schemas may not have", async (schema, field) => {
    const enforce = (strict: boolean): unknown => enforceableSchema(schema as Record<string, unknown>, { field: "schema", strict });
    expect(() => enforce(true)).toThrow(expect.objectContaining({ name: "EngineError", code: "bad-request", field }));
    const random = randomOf(4);
    for (let round = 0; round < 2; round++)
      JSON.parse(tokenizer.decode(await write({ kind: "json-schema", schema: JSON.stringify(enforce(false)) }, random)));
  });

  it.each<readonly [object, string]>([
    [{ type: "date" }, "schema.type"],
    [{ type: [] }, "schema.type"],
    [{ properties: { a: false } }, "schema.properties.a"],
    [{ properties: { a: 3 } }, "schema.properties.a"],
    [{ items: { $ref: "#/$defs/none" } }, "schema.items.$ref"],
    [{ $ref: "https://example.org/schema" }, "schema.$ref"],
    [{ enum: [] }, "schema.enum"],
    [{ enum: ["a"], type: "integer" }, "schema"],
    [{ type: "integer", minimum: 5, maximum: 1 }, "schema"],
    [{ type: "integer", minimum: -1e20 }, "schema.minimum"],
    [{ type: "string", minLength: 3, maxLength: 2 }, "schema.maxLength"],
    [{ type: "array", minItems: -1 }, "schema.minItems"],
    [{ type: "array", prefixItems: [{}], items: false, minItems: 2 }, "schema.minItems"],
    [{ required: ["a"], additionalProperties: false }, "schema.required"],
    [{ required: ['a"'] }, "schema.required"],
    [{ anyOf: [] }, "schema.anyOf"],
    [{ anyOf: [{}, 1] }, "schema.anyOf[1]"],
    [{ $defs: { a: { type: 1 } } }, "schema.$defs.a.type"],
    [{ anyOf: Array.from({ length: 3000 }, () => ({})) }, "schema"],
  ])("enforceableSchema() names the place in %j that no grammar can be made of", (schema, field) => {
    expect(() => enforceableSchema(schema as Record<string, unknown>, { field: "schema", strict: false })).toThrow(
      expect.objectContaining({ name: "EngineError", code: "bad-request", field }),
    );
  });

  it("write texts of regexes and grammars", async () => {
    const random = randomOf(5);
    for (let round = 0; round < 3; round++) {
      expect(tokenizer.decode(await write({ kind: "regex", pattern: "^(\\d{2,4}|[^a-z\\s]é|[äö]-.){1,2}\\u0021$" }, random))).toMatch(
        /^(\d{2,4}|[^a-z\s]é|[äö]-.){1,2}!$/u,
      );
      const ebnf = 'root ::= greeting ", " name "!"\ngreeting ::= "Hello" | "Good day"\nname ::= [A-Z] [a-z]+ # a name\n';
      expect(tokenizer.decode(await write({ kind: "ebnf", text: ebnf }, random))).toMatch(/^(Hello|Good day), [A-Z][a-z]+!$/);
    }
  });

  it("put parts together: texts, alternatives, lists and schemas, each with rules of its own", async () => {
    const random = randomOf(7);
    const item: OutputGrammar = {
      kind: "either",
      parts: [
        {
          kind: "json-schema",
          schema: JSON.stringify({ type: "object", properties: { a: { type: "boolean" } }, required: ["a"] }),
          compact: true,
        },
        {
          kind: "json-schema",
          schema: JSON.stringify({ type: "object", properties: { b: { type: "null" } }, required: ["b"] }),
          compact: true,
        },
        { kind: "regex", pattern: "x+" },
      ],
    };
    const grammar: OutputGrammar = {
      kind: "sequence",
      parts: [
        { kind: "text", text: 'say "\\\n:' },
        { kind: "list", item, between: { kind: "text", text: "\n" } },
        { kind: "text", text: "]" },
      ],
    };
    for (let round = 0; round < 4; round++)
      expect(tokenizer.decode(await write(grammar, random))).toMatch(
        /^say "\\\n:((\{"a": (true|false)\}|\{"b": null\}|x+)(\n|(?=\])))+\]$/,
      );
  });

  it("spell a mark as its token, never in pieces, and as text where the vocabulary has none", async () => {
    const random = randomOf(9);
    const grammar: OutputGrammar = {
      kind: "sequence",
      parts: [
        { kind: "mark", text: "<｜begin｜>" },
        { kind: "json-schema", schema: '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}', compact: true },
        { kind: "mark", text: "<｜end｜>" },
        { kind: "mark", text: "<｜absent｜>" },
      ],
    };
    for (let round = 0; round < 4; round++) {
      const ids = await write(grammar, random);
      expect(ids[0]).toBe(4096);
      expect(ids.filter((id) => id >= 4096)).toEqual([4096, 4097]);
      expect(tokenizer.decode(ids.slice(ids.indexOf(4097) + 1))).toBe("<｜absent｜>");
    }
    const anything = await mask({ kind: "open", session: session++, grammar: { kind: "regex", pattern: "[\\s\\S]*" }, ids: [] });
    expect(anything).not.toContain(4096);
    expect(anything.length).toBeGreaterThan(4000);
  });

  it("go on after tokens that were chosen elsewhere, with the same mask", async () => {
    const grammar: OutputGrammar = { kind: "json-schema", schema: JSON.stringify(FIRST) };
    const ids = tokenizer.encode('{"city": "Par');
    const begun = session++;
    await mask({ kind: "open", session: begun, grammar, ids: [] });
    const step = await mask({ kind: "accept", session: begun, ids });
    expect(await mask({ kind: "open", session: session++, grammar, ids })).toEqual(step);
  });

  it("look ahead at tokens that may come, up to the first that may not or that ends the text, and stay where they are", async () => {
    const grammar: OutputGrammar = { kind: "json-schema", schema: JSON.stringify(FIRST), compact: true };
    const ids = tokenizer.encode('{"city": "Paris", "days": 3}');
    const number = session++;
    const masks = [await mask({ kind: "open", session: number, grammar, ids: [] })];
    for (const [at, id] of ids.entries()) {
      const wrong = Array.from({ length: SIZE }, (_, other) => other).find((other) => !masks.at(-1)?.includes(other)) ?? 0;
      const { ahead } = await grammars.answer({ kind: "ahead", session: number, ids: ids.slice(at, at + 3) });
      const { ahead: cut } = await grammars.answer({ kind: "ahead", session: number, ids: [id, SIZE - 1, id] });
      const { ahead: none } = await grammars.answer({ kind: "ahead", session: number, ids: [wrong, id] });
      masks.push(await mask({ kind: "accept", session: number, ids: [id] }));
      expect(ahead).toHaveLength(Math.min(3, ids.length - at));
      expect(ahead?.[0] && idsOf(ahead[0])).toEqual(masks.at(-1));
      expect(cut?.map(idsOf)).toEqual([masks.at(-1)]);
      expect(none).toEqual([]);
      const far = ahead?.[2];
      if (!far) continue;
      const elsewhere = await mask({ kind: "open", session: session++, grammar, ids: ids.slice(0, at + 3) });
      expect(idsOf(far)).toEqual(elsewhere);
    }
    expect(masks.at(-1)).toContain(EOS);
    expect(await grammars.answer({ kind: "ahead", session: number, ids: [EOS, EOS] })).toEqual({ ahead: [] });
    expect(await mask({ kind: "accept", session: number, ids: [] })).toEqual(masks.at(-1));
  });

  it.each<readonly [string, OutputGrammar, RegExp]>([
    ["a regex that is none", { kind: "regex", pattern: "(a" }, /parenthesis is not closed/],
    ["a grammar with an open string", { kind: "ebnf", text: 'root ::= "a' }, /lexer error at line 1/],
    ["a grammar without a root", { kind: "ebnf", text: 'start ::= "a"' }, /root rule with name "root" is not found/],
    ["a rule that is nowhere", { kind: "ebnf", text: "root ::= b" }, /"b" is not defined/],
    ["a schema of an unknown type", { kind: "json-schema", schema: '{"type":"date"}' }, /Unsupported type "date"/],
    ["a schema that nothing follows", { kind: "json-schema", schema: "false" }, /cannot accept any value/],
    ["a reference to nothing", { kind: "json-schema", schema: '{"$ref":"#/$defs/a"}' }, /Cannot find field \$defs/],
    ["a rule that is only itself", { kind: "ebnf", text: "root ::= root" }, /leaves no token to go on with/],
    ["a class with letters beyond ASCII", { kind: "ebnf", text: "root ::= [^é]" }, /has characters beyond ASCII/],
    ["no alternatives", { kind: "either", parts: [] }, /empty/],
  ])("refuse %s, say why, and go on with others", async (_, grammar, message) => {
    const { error } = await grammars.answer({ kind: "open", session: session++, grammar, ids: [] });
    expect(error).toEqual({ message: expect.stringMatching(message) as string, fatal: false });
    expect(await mask({ kind: "open", session: session++, grammar: { kind: "regex", pattern: "[0-9]" }, ids: [] })).not.toContain(EOS);
  });
});
