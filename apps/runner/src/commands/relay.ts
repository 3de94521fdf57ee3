/** `shoal relay`: where the peers of swarms meet. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { identityFromText, identityToText, newIdentity } from "@shoal/swarm";
import { startRelay } from "@shoal/swarm/deno";
import type { Command, Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { swarmDirectory, writeWhole } from "../swarm/chunkCache.ts";

const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_PORT = 4001;
const OWNER_ONLY = 0o600;

export const relayCommand: Command = {
  name: "relay",
  summary: "run the rendezvous where a swarm's peers meet",
  arguments: "",
  maxWords: 0,
  options: ["host", "port", "tls-cert", "tls-key"],
  notes: [
    "Prints its address, which 'shoal swarm create --relay ADDRESS' takes. Peers find one another through it and then connect directly; it carries data only where nothing else",
    "connects. It sees who is there and how much they say, but nothing of what: that is encrypted between peers.",
    `It serves on ${DEFAULT_HOST} and port ${DEFAULT_PORT} unless told otherwise: --host 0.0.0.0 lets other machines in. With --tls-cert and --tls-key it speaks TLS, which pages from https need.`,
  ],
  run: runRelay,
};

async function runRelay({ values, terminal, interrupts }: Invocation): Promise<number> {
  const cert = values["tls-cert"];
  const key = values["tls-key"];
  if ((cert === undefined) !== (key === undefined))
    throw new UsageError(
      `Cannot speak TLS with ${cert === undefined ? "a key" : "a certificate"} alone, expected '--tls-cert' and '--tls-key'`,
    );
  const tls = cert !== undefined && key !== undefined ? { cert: await readText(cert), key: await readText(key) } : undefined;
  const identity = await ownIdentity();
  const relay = await startRelay({ identity, host: values.host ?? DEFAULT_HOST, port: values.port ?? DEFAULT_PORT, ...(tls && { tls }) });
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
