/** Grammars in this thread: for tests, and where there are no workers. A grammar that takes long then holds everything up. */
import { Grammars } from "./grammars.ts";
import type { GrammarPort } from "./protocol.ts";

export function localGrammarPort(): GrammarPort {
  const grammars = new Grammars();
  let ended = false;
  let last: Promise<unknown> = Promise.resolve();
  let hearReply: Parameters<GrammarPort["hear"]>[0] = () => {};
  return {
    send: (call) => {
      last = last.then(async () => {
        const reply = await grammars.answer(structuredClone(call));
        if (!ended) hearReply(reply);
      });
    },
    hear: (onReply) => (hearReply = onReply),
    end: () => (ended = true),
  };
}
