/** `shoal relay`: where the peers of swarms meet. */
import type { Command } from "../command.ts";
import { RELAY_HOST, RELAY_PORT } from "../swarm/relayDefaults.ts";

export const relayCommand: Command = {
  name: "relay",
  summary: "run the rendezvous where a swarm's peers meet",
  arguments: "",
  maxWords: 0,
  options: ["host", "port", "tls-cert", "tls-key"],
  meanings: {
    host: `the address to serve on (default ${RELAY_HOST}); 0.0.0.0 is all of this machine's`,
    port: `the port to serve on (default ${RELAY_PORT}); 0 takes one that is free`,
  },
  notes: [
    "Prints its address, which 'shoal swarm create --relay ADDRESS' takes. Peers find one another through it and then connect directly; it carries data only where nothing else",
    "connects. It sees who is there and how much they say, but nothing of what: that is encrypted between peers.",
    "Only the machine itself reaches it unless --host says otherwise. It prints an address for each of the machine's own: behind a router or under a name, put the public one in its",
    "place ('/dns4/relay.example/tcp/4001/...'). With --tls-cert and --tls-key it speaks TLS, which pages from https need. Its name stays the same from start to start.",
  ],
  // What it needs, libp2p among it, is loaded for this command alone.
  run: async (invocation) => (await import("../swarm/runRelay.ts")).runRelay(invocation),
};
