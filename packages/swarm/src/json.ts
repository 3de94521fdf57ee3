/** JSON from other peers, held to a schema. */
import type { z } from "zod";
import { malformed } from "./errors.ts";

/** @throws SwarmError named malformed, naming the field */
export function parseJson<Schema extends z.ZodType>(text: string, schema: Schema, what: string): z.infer<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw malformed(what, "it", "no JSON", "a JSON object");
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw malformed(what, `'${issue?.path.join(".") ?? ""}'`, "not as expected", issue?.message.slice(0, 200) ?? "another value");
}
