/** `shoal relay`: where the peers of swarms meet. */
import type { Command } from "../command.ts";
import { RELAY_HOST, RELAY_PORT } from "../swarm/relayDefaults.ts";

export const relayCommand: Command = {
  name: "relay",
  summary: "run the rendezvous where a swarm's peers meet",
  arguments: "",
  maxWords: 0,
  options: ["host", "port", "tls-cert", "tls-key"],
  notes: [
    "Prints its address, which 'shoal swarm create --relay ADDRESS' takes. Peers find one another through it and then connect directly; it carries data only where nothing else",
    "connects. It sees who is there and how much they say, but nothing of what: that is encrypted between peers.",
    `It serves on ${RELAY_HOST} and port ${RELAY_PORT} unless told otherwise: --host 0.0.0.0 lets other machines in. With --tls-cert and --tls-key it speaks TLS, which pages from https need.`,
  ],
  // What it needs, libp2p among it, is loaded for this command alone.
  run: async (invocation) => (await import("../swarm/runRelay.ts")).runRelay(invocation),
};
