/**
 * Weights from other peers: a link for it, requests as JSON, answers as bytes. One request is under way at a time on a link, so that a peer that gives is not flooded; who wants more
 * asks several peers.
 *
 *     request   {"manifest": true}                      answer  u8 1, the manifest's text
 *     request   {"file": name, "index": n}              answer  u8 1, the chunk; u8 0 where it is not there
 */
import { z } from "zod";
import { Inbox } from "../control/inbox.ts";
import { SwarmError } from "../errors.ts";
import { parseJson } from "../json.ts";
import type { Link } from "../link/link.ts";
import type { ChunkSource } from "./chunkedFiles.ts";

const requestSchema = z.union([
  z.strictObject({ manifest: z.literal(true) }),
  z.strictObject({
    file: z.string().max(128),
    index: z
      .int()
      .min(0)
      .max(2 ** 31),
  }),
]);
const NOT_HERE = Uint8Array.of(0);
const MAX_REQUEST_BYTES = 512;

export interface ChunkOffer {
  readonly manifestText: string;
  /** Of this machine's own: nothing is fetched for others. */
  readonly chunk: (file: string, index: number) => Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** Answers until the link ends. */
export function serveChunks(link: Link, offer: () => ChunkOffer | undefined): void {
  let turn: Promise<void> = Promise.resolve();
  let waiting = 0;
  const answer = async (message: Uint8Array): Promise<void> => {
    const asked = parseJson(new TextDecoder().decode(message), requestSchema, "a request for weights");
    const have = offer();
    let bytes: Uint8Array | undefined;
    if (have)
      bytes =
        "manifest" in asked
          ? new TextEncoder().encode(have.manifestText)
          : await have.chunk(asked.file, asked.index).catch(() => undefined);
    if (!bytes) return link.send(NOT_HERE);
    const found = new Uint8Array(1 + bytes.byteLength);
    found[0] = 1;
    found.set(bytes, 1);
    await link.send(found);
  };
  link.listen((message) => {
    if (message.byteLength > MAX_REQUEST_BYTES || waiting >= 8) {
      link.close("more is asked for than is allowed");
      return;
    }
    waiting++;
    turn = turn
      .then(() => answer(message))
      .catch((error: unknown) => link.close(error instanceof Error ? error.message.slice(0, 200) : "failed"))
      .finally(() => waiting--);
  });
}

/** The other side of it. */
export class ChunkClient implements ChunkSource {
  readonly name: string;
  readonly link: Link;
  readonly #answers = new Inbox<Uint8Array<ArrayBuffer>>(2);
  #turn: Promise<unknown> = Promise.resolve();

  constructor(link: Link) {
    this.link = link;
    this.name = link.remote;
    link.listen((message) => this.#answers.put(message));
    void link.closed.then((error) => this.#answers.end(error));
  }

  read(file: string, index: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#ask({ file, index });
  }

  /** @throws SwarmError incomplete where the peer has none */
  async manifest(): Promise<string> {
    const bytes = await this.#ask({ manifest: true });
    if (!bytes) throw new SwarmError("incomplete", `Cannot get the manifest from '${this.name}': it has none`);
    return new TextDecoder().decode(bytes);
  }

  #ask(request: z.infer<typeof requestSchema>): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const asked = this.#turn.then(async () => {
      await this.link.send(new TextEncoder().encode(JSON.stringify(request)));
      const answer = await this.#answers.take();
      return answer[0] === 1 ? answer.slice(1) : undefined;
    });
    this.#turn = asked.catch(() => undefined);
    return asked;
  }
}
