/** A worker's whole life: one `Grammars`, its calls answered in their order. */
import { Grammars } from "./grammars.ts";
import type { GrammarCall } from "./protocol.ts";

const grammars = new Grammars();
let last: Promise<unknown> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<GrammarCall>) => {
  last = last.then(async () => {
    const reply = await grammars.answer(data);
    self.postMessage(reply, { transfer: [reply.mask ?? [], reply.ahead ?? []].flat().map(({ buffer }) => buffer) });
  });
});
