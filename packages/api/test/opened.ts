/** An API over an engine that answers with a known text, and what tests ask of it. */
import { type ApiOptions, type RequestRecord, createApi } from "../src/mod.ts";
import { FakeEngine } from "./fakeEngine.ts";
import { loadTinyTokenizer } from "./tinyTokenizer.ts";

export const { tokenizer, template } = loadTinyTokenizer();
export const TEXT = "Once upon a time there was a clever fox named Kate.";
export const model = { id: "tiny", vocabSize: 3072, stopTokenIds: [1], recommended: null, created: 0 };

export function open(more: Partial<ApiOptions> = {}): { api: ReturnType<typeof createApi>; engine: FakeEngine; records: RequestRecord[] } {
  const engine = new FakeEngine(tokenizer.encode(TEXT));
  const records: RequestRecord[] = [];
  const api = createApi({ engine, tokenizer, template, model, onRequest: (record) => records.push(record), ...more });
  return { api, engine, records };
}

export function post(body: string | Uint8Array<ArrayBuffer>, path = "/v1/chat/completions", init: RequestInit = {}): Request {
  return new Request(`http://localhost${path}`, { method: "POST", body, headers: { "content-type": "application/json" }, ...init });
}

export const CHAT = { messages: [{ role: "user", content: "Hi" }] };

/** The JSON of a stream. */
export function events(stream: string): readonly unknown[] {
  return stream
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)) as unknown);
}

export interface Failure {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
}
