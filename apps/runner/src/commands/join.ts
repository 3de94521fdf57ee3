/** `shoal join`: this machine's GPU for a swarm. */
import { inviteFromText } from "@shoal/swarm";
import type { Command, Invocation } from "../command.ts";
import { UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { withGpu } from "../gpu/session.ts";
import { DEVICE } from "../options.ts";
import { Contribution } from "../swarm/contribution.ts";

export const joinCommand: Command = {
  name: "join",
  summary: "give this machine's GPU to a swarm",
  arguments: "INVITE",
  maxWords: 1,
  options: ["memory", "model", "no-local", "max-sequences", "context", "mode", "kv", "ice-servers", ...DEVICE],
  notes: [
    "Takes the layers that the swarm needs most and that fit --memory, reads their weights alone (from --model, or from other peers), checks every chunk against the model's digests",
    "and serves until Ctrl-C, when it lets those who use it finish. What passes through a peer can be seen there: join swarms of people whom you trust, and know that they trust you.",
  ],
  run: runJoin,
};

async function runJoin(invocation: Invocation): Promise<number> {
  const [text] = invocation.words;
  if (text === undefined) throw new UsageError("Cannot join: there is no invite, expected one as 'shoal swarm create' prints it", "join");
  const invite = inviteFromText(text);
  return withGpu(async (client) => {
    const contribution = await Contribution.begin(invocation, client, invite);
    return invocation.interrupts.stoppable(async (signal) => {
      Deno.addSignalListener("SIGTERM", () => invocation.interrupts.interrupt());
      await contribution.serve(signal);
      return EXIT.ok;
    });
  });
}
