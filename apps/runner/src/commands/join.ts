/** `shoal join`: this machine's GPU for a swarm. */
import type { Command } from "../command.ts";
import { DEVICE } from "../options.ts";

export const joinCommand: Command = {
  name: "join",
  summary: "give this machine's GPU to a swarm",
  arguments: "INVITE",
  maxWords: 1,
  options: ["memory", "model", "no-local", "max-sequences", "context", "drafts", "mode", "kv", "ice-servers", ...DEVICE],
  meanings: {
    model:
      "a directory, an http(s) address or 'organization/name' on the hub with the swarm's model; without it weights come from other peers, unless it is the embedded tiny model",
  },
  notes: [
    "Takes the layers that the swarm needs most and that fit --memory, reads their weights alone (from --model, or from other peers), checks every chunk against the model's digests",
    "and serves until Ctrl-C, when it lets those who use it finish. What passes through a peer can be seen there: join swarms of people whom you trust, and know that they trust you.",
    "Where no layer fits, it waits for peers on the same LAN, and has some of the layer's experts on them, or holds some of theirs.",
  ],
  // What it needs, libp2p among it, is loaded for this command alone.
  run: async (invocation) => (await import("../swarm/runJoin.ts")).runJoin(invocation),
};
