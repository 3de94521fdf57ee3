/** Grammars in a worker, which can be ended whatever it does. */
import type { GrammarPort, GrammarReply } from "./protocol.ts";

export function workerGrammarPort(worker: Worker): GrammarPort {
  return {
    send: (call) => worker.postMessage(call, []),
    hear: (onReply, onDeath) => {
      worker.addEventListener("message", ({ data }: MessageEvent<GrammarReply>) => onReply(data));
      worker.addEventListener("error", (event) => {
        // Otherwise Deno ends the whole process with a stack trace.
        event.preventDefault();
        onDeath(event.message);
      });
    },
    end: () => worker.terminate(),
  };
}

/** The worker that this package brings. */
export function spawnGrammarWorker(): GrammarPort {
  return workerGrammarPort(new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "grammars" }));
}
