/** What ways to list a model's files have in common: which files are wanted, and answers that are read within bounds. */
import { readBounded } from "./bounded.ts";
import { WebError } from "./errors.ts";

/** Small files that a checkpoint may have, of which only the first must be there. */
export const SMALL_FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
export const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";

export interface ListOptions {
  readonly signal?: AbortSignal | undefined;
  readonly fetch?: typeof globalThis.fetch;
}

/** @throws WebError named `ManifestError` */
export async function bodyOf(response: Response, maxBytes: number, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readBounded(response, maxBytes);
  if (bytes === null)
    throw new WebError("ManifestError", `Cannot read '${name}': it has more than ${maxBytes} bytes, expected at most that`);
  return bytes;
}

/** @throws WebError named `SourceError` */
export function jsonOf(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new WebError("SourceError", `Cannot read '${name}': it is not JSON, expected it to be`, { cause });
  }
}
