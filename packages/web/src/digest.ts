/** Digests of files, piece by piece as they come, which WebCrypto cannot. */
import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { ModelFile } from "./manifest.ts";

export class Digest {
  readonly #sha256 = sha256.create();
  readonly #git: ReturnType<typeof sha1.create> | undefined;
  #ended: { readonly sha256: string; readonly git: string | undefined } | undefined;

  constructor({ bytes, gitSha1 }: ModelFile) {
    if (gitSha1 !== undefined) this.#git = sha1.create().update(new TextEncoder().encode(`blob ${bytes}\0`));
  }

  update(bytes: Uint8Array): void {
    this.#sha256.update(bytes);
    this.#git?.update(bytes);
  }

  /** 64 hex digits. Nothing can be added any more. */
  get sha256(): string {
    return this.#end().sha256;
  }

  /** Whether what was added is the file. True where nobody has said what it must be. */
  proves({ sha256, gitSha1 }: ModelFile): boolean {
    const ended = this.#end();
    return (sha256 === null || ended.sha256 === sha256) && (gitSha1 === undefined || ended.git === gitSha1);
  }

  #end(): { readonly sha256: string; readonly git: string | undefined } {
    this.#ended ??= { sha256: bytesToHex(this.#sha256.digest()), git: this.#git && bytesToHex(this.#git.digest()) };
    return this.#ended;
  }
}

/** Of what is there so far of a file. */
export async function digestOf(part: Blob, file: ModelFile): Promise<Digest> {
  const digest = new Digest(file);
  for await (const chunk of streamChunks(part.stream())) digest.update(chunk);
  return digest;
}

/** Not every browser can iterate over a stream. */
export async function* streamChunks(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
