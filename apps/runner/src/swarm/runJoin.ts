/** What `shoal join` does. */
import { inviteFromText } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { withGpu } from "../gpu/session.ts";
import { Contribution } from "./contribution.ts";

export async function runJoin(invocation: Invocation): Promise<number> {
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
