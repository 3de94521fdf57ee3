/** What `shoal relay` does. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { identityFromText, identityToText, newIdentity } from "@shoal/swarm";
import { startRelay } from "@shoal/swarm/deno";
import type { Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { swarmDirectory, writeWhole } from "./chunkCache.ts";
import { RELAY_HOST, RELAY_PORT } from "./relayDefaults.ts";

const OWNER_ONLY = 0o600;

export async function runRelay({ values, terminal, interrupts }: Invocation): Promise<number> {
  const cert = values["tls-cert"];
  const key = values["tls-key"];
  if ((cert === undefined) !== (key === undefined))
    throw new UsageError(
      `Cannot speak TLS with ${cert === undefined ? "a key" : "a certificate"} alone, expected '--tls-cert' and '--tls-key'`,
      "relay",
    );
  const tls = cert !== undefined && key !== undefined ? { cert: await readText(cert), key: await readText(key) } : undefined;
  const identity = await ownIdentity();
  const relay = await startRelay({ identity, host: values.host ?? RELAY_HOST, port: values.port ?? RELAY_PORT, ...(tls && { tls }) });
  for (const address of relay.addresses) terminal.out(`${address}\n`);
  return interrupts.stoppable(async (signal) => {
    Deno.addSignalListener("SIGTERM", () => interrupts.interrupt());
    if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await relay.close();
    return EXIT.ok;
  });
}

/** The same each time: invites name it. */
async function ownIdentity() {
  const file = join(swarmDirectory(), "relay.key");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    const identity = await newIdentity();
    await writeWhole(file, identityToText(identity), OWNER_ONLY);
    return identity;
  }
  return identityFromText(text);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new RunnerError(`Cannot read '${path}', expected a PEM file`, { cause });
  }
}
