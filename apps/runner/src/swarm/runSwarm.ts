/** What `shoal swarm create | status | expel` do. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Invite,
  identityFromText,
  identityToText,
  inviteFromText,
  inviteToText,
  isPeerId,
  missingLayers,
  newIdentity,
  newInvite,
} from "@shoal/swarm";
import { tinyModelUrl } from "@shoal/tiny-model";
import { renderUnicodeCompact } from "uqr";
import type { Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { swarmDirectory, writeWhole } from "./chunkCache.ts";
import { enterSwarm, manifestFile, manifestOf } from "./member.ts";
import { type SwarmReport, statusText } from "./status.ts";

const OWNER_ONLY = 0o600;
/** In place of a peer's name: the invite itself, with all who came by it. */
const INVITE = "invite";
/** Two announcements of everybody. */
const LISTEN_MS = 4500;
const SPREAD_MS = 1000;

export async function runSwarm(invocation: Invocation): Promise<number> {
  const [what, text, ...rest] = invocation.words;
  if (what === "create") return create(invocation);
  if (what === "status") return status(invocation, needed(text));
  if (what === "expel") return expel(invocation, inviteFromText(needed(text)), rest);
  throw new UsageError(`Cannot run 'shoal swarm ${what ?? ""}', expected create, status or expel`, "swarm");
}

function needed(text: string | undefined): string {
  if (text === undefined) throw new UsageError("Cannot find the swarm: there is no invite, expected one after the word", "swarm");
  return text;
}

async function create({ values, terminal, interrupts }: Invocation): Promise<number> {
  const { relay: relays } = values;
  if (relays === undefined)
    throw new UsageError(
      "Cannot create a swarm without a rendezvous, expected '--relay' with the address that 'shoal relay' prints",
      "swarm",
    );
  const location = values.model ?? fileURLToPath(tinyModelUrl);
  const name = values.model === undefined ? "shoal-tiny" : (location.split(/[/\\]/).findLast((part) => part !== "") ?? location);
  const manifest = await manifestOf(name.slice(0, 100), location, undefined, interrupts.signal);
  const owner = await newIdentity();
  const invite = await newInvite(owner, { relays, manifestDigest: manifest.digest, modelName: manifest.manifest.name }, values.days);
  await writeWhole(manifestFile(invite), manifest.text);
  await writeWhole(ownerFile(invite), identityToText(owner), OWNER_ONLY);
  const text = inviteToText(invite);
  if (terminal.inIsTerminal) terminal.err(`${renderUnicodeCompact(text)}\n`);
  terminal.out(`${text}\n`);
  terminal.err("Peers join with 'shoal join INVITE' and use it with 'shoal chat --swarm INVITE'. They can see what passes through them.\n");
  return EXIT.ok;
}

async function status({ values, terminal, interrupts }: Invocation, text: string): Promise<number> {
  const member = await enterSwarm(inviteFromText(text), values, interrupts.signal);
  try {
    await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
    const { nLayers } = member.checkpoint.config;
    const all = member.peers.directory.peers();
    const held = all.flatMap(({ layers, state }) => (layers && state === "serving" ? [layers] : []));
    const report: SwarmReport = { model: member.manifest.manifest.name, nLayers, missing: missingLayers(nLayers, held), peers: all };
    terminal.out(values.json === true ? `${JSON.stringify(report)}\n` : statusText(report));
    return EXIT.ok;
  } finally {
    await member.close();
  }
}

async function expel({ values, terminal, interrupts }: Invocation, invite: Invite, names: readonly string[]): Promise<number> {
  if (names.length === 0)
    throw new UsageError("Cannot expel nobody, expected names of peers as 'shoal swarm status' shows them, or 'invite'", "swarm");
  for (const name of names)
    if (name !== INVITE && !isPeerId(name))
      throw new UsageError(
        `Cannot expel '${name.slice(0, 80)}': it is no peer's whole name, expected one as 'shoal swarm status' shows it, or 'invite'`,
        "swarm",
      );
  const invites = names.includes(INVITE) ? [invite.identity.id] : [];
  let owner;
  try {
    owner = identityFromText(await readFile(ownerFile(invite), "utf8"));
  } catch (cause) {
    throw new RunnerError("Cannot expel anybody: this machine has not created the swarm", { cause });
  }
  const member = await enterSwarm(invite, values, interrupts.signal);
  try {
    await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
    const kept = await readExpelled(invite);
    if (kept !== undefined) await member.peers.recallExpulsions(kept);
    const list = await member.peers.expel(owner, { peers: names.filter((name) => name !== INVITE), invites });
    await writeWhole(expelledFile(invite), list);
    await new Promise((resolve) => setTimeout(resolve, SPREAD_MS));
    terminal.err(`Expelled ${names.join(", ")}\n`);
    return EXIT.ok;
  } finally {
    await member.close();
  }
}

/** Whom the owner has expelled so far: each list is the whole one. */
async function readExpelled(invite: Invite): Promise<string | undefined> {
  try {
    return await readFile(expelledFile(invite), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function expelledFile({ swarm }: Invite): string {
  return join(swarmDirectory(), "owners", `${swarm}.expelled.json`);
}

function ownerFile({ swarm }: Invite): string {
  return join(swarmDirectory(), "owners", `${swarm}.key`);
}
