/** `shoal swarm create | status | expel`. */
import type { Command } from "../command.ts";

export const swarmCommand: Command = {
  name: "swarm",
  summary: "create a swarm for a model, see who is in one, expel somebody",
  arguments: "create | status INVITE | expel INVITE PEER...",
  maxWords: 64,
  options: ["relay", "days", "model", "json", "ice-servers"],
  meanings: { model: "the model's directory; without it the embedded tiny model" },
  notes: [
    "create --relay ADDRESS,... [--model DIR]: reads the model once, and prints an invite, also as a QR code. Whoever has the invite is in: it is a key.",
    "status: the peers, their layers, speed and load, and what is missing for the model to be served. --json for machines.",
    "expel: peers by their whole names, for whoever created the swarm. Somebody who keeps the invite can come back under a new name: 'expel INVITE invite' ends the invite itself,",
    "with all who came by it; then print a new one with 'create'.",
    "The peers of a swarm can see what passes through them: prompts and answers. Use a swarm with people whom you would show them.",
  ],
  // What it needs, libp2p among it, is loaded for this command alone.
  run: async (invocation) => (await import("../swarm/runSwarm.ts")).runSwarm(invocation),
};
