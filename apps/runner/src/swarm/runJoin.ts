/** What `shoal join` does. */
import { SwarmError, inviteFromText } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { withGpu } from "../gpu/session.ts";
import { contribute } from "./contribution.ts";

export async function runJoin(invocation: Invocation): Promise<number> {
  const [text] = invocation.words;
  if (text === undefined) throw new UsageError("Cannot join: there is no invite, expected one as 'shoal swarm create' prints it", "join");
  const invite = inviteFromText(text);
  return withGpu(async (client) => {
    try {
      await contribute(invocation, client, invite);
    } catch (error) {
      if (error instanceof SwarmError && error.field === "memory")
        throw new RunnerError(`${error.message}, by '--memory'`, { cause: error });
      throw error;
    }
    return EXIT.ok;
  });
}
