/** Nonsense never fails the server, and what is refused is refused for a reason that its sender can find. */
import { GrammarConstraints, localGrammarPort, vocabularyOf } from "@shoal/engine/constrained";
import { answerMarks } from "@shoal/tokenizer";
import { describe, expect, it } from "vitest";
import { createApi } from "../src/mod.ts";
import { FakeEngine } from "./fakeEngine.ts";
import { nonsense, randomOf } from "./nonsense.ts";
import { loadTinyTokenizer } from "./tinyTokenizer.ts";

const REQUESTS = 2000;
const { tokenizer, template } = loadTinyTokenizer();
const model = { id: "tiny", vocabSize: 4096, stopTokenIds: [1], recommended: null, created: 0 };
const REQUIRED = ["messages", "prompt"];

/** Undefined where it is no JSON. */
function parsed(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as unknown;
  } catch {
    return undefined;
  }
}

interface Failure {
  readonly message: string;
  readonly type: string;
  readonly param: unknown;
  readonly code: unknown;
}

/** What is wrong with a refusal; undefined where nothing is. */
function complaint(body: Uint8Array, status: number, { message, param, code, type }: Failure): string | undefined {
  if (status !== 400) return `its status is ${status}`;
  if (typeof code !== "string" || type !== "invalid_request_error") return `its code is ${String(code)} and its type ${type}`;
  if (typeof param !== "string" || param === "") return "it names nothing";
  if (!/^Cannot .+\bexpected /s.test(message) || message.length > 700) return "its message is not of the usual form";
  if (param !== "body" && !message.includes(`'${param}'`)) return `its message does not name '${param}'`;
  const value = parsed(body);
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  // Of what is too deep nobody knows whether it would have been JSON.
  if (!isObject && code === "too_deep") return undefined;
  if (!isObject) return param === "body" && message.includes("its body ") ? undefined : "it is not about the body";
  const root = /^(\w+|\["[^"]*)/.exec(param)?.[0].replace(/^\["/, "") ?? "";
  const known = REQUIRED.includes(root) || Object.keys(value).some((name) => name === root || (root.length > 60 && name.startsWith(root)));
  return known || root === "" ? undefined : `'${param}' is no field of it`;
}

describe("nonsense", () => {
  it(`is never a fault of the server in ${REQUESTS} requests, and each refusal names the field, or says what the body is`, async () => {
    const vocabulary = vocabularyOf(tokenizer, { size: model.vocabSize, stopTokenIds: model.stopTokenIds, marks: answerMarks });
    const constraints = new GrammarConstraints({ spawn: localGrammarPort, vocabulary });
    const engine = new FakeEngine(tokenizer.encode("Once upon a time"), "length", constraints);
    const faults: unknown[] = [];
    const api = createApi({ engine, tokenizer, template, model, onRequest: ({ fault }) => fault !== undefined && faults.push(fault) });
    const random = randomOf(7);
    const complaints: string[] = [];
    const codes = new Map<string, number>();
    for (let i = 0; i < REQUESTS; i++) {
      const { path, body } = nonsense(random);
      const request = new Request(`http://localhost${path}`, { method: "POST", body, headers: { "content-type": "application/json" } });
      const response = await api(request);
      const text = await response.text();
      // What fails in the middle of a stream is told there.
      const late = /^data: (\{"error":.*)$/m.exec(text)?.[1];
      const failure = response.status === 200 ? late : text;
      const error = failure === undefined ? undefined : (JSON.parse(failure) as { error: Failure }).error;
      const code = error ? String(error.code) : "taken";
      codes.set(code, (codes.get(code) ?? 0) + 1);
      const wrong = error && complaint(body, late === undefined ? response.status : 400, error);
      if (error && wrong !== undefined)
        complaints.push(`${wrong}: ${error.message} [${String(error.param)}] for ${new TextDecoder().decode(body.subarray(0, 300))}`);
    }
    constraints.destroy();
    expect(complaints).toEqual([]);
    expect(faults).toEqual([]);
    expect(engine.running).toBe(0);
    // None of the kinds has gone missing.
    const kinds = ["taken", "invalid_json", "invalid_encoding", "too_deep", "invalid_type", "invalid_value", "missing_required_parameter"];
    for (const kind of [...kinds, "unknown_parameter"])
      expect([kind, codes.get(kind) ?? 0]).toEqual([kind, expect.toSatisfy((count: number) => count >= 10)]);
    expect(codes.get("taken")).toBeLessThan(REQUESTS / 2);
  });
});
