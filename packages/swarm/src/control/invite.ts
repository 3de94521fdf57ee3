/** What lets somebody into a swarm, as a text for a chat or a QR code. Whoever has it is in: it is a key. */
import { multiaddr } from "@multiformats/multiaddr";
import { z } from "zod";
import { SwarmError } from "../errors.ts";
import { parseJson } from "../json.ts";
import { type Identity, type Signed, identityFromText, identityToText, newIdentity, peerIdSchema, signedSchema } from "./identity.ts";
import { certifyInvite } from "./membership.ts";

const PREFIX = "shoal:";
const MAX_INVITE_CHARACTERS = 4096;
const MAX_RELAYS = 8;
const DEFAULT_DAYS = 30;

const schema = z.strictObject({
  v: z.literal(1),
  /** The swarm's public key. */
  s: peerIdSchema,
  /** Multiaddresses of relays. */
  r: z.array(z.string().min(1).max(300)).min(1).max(MAX_RELAYS),
  /** SHA-256 of the model's manifest. */
  m: z.string().regex(/^[0-9a-f]{64}$/),
  /** The model's name, for people. */
  n: z.string().min(1).max(100),
  /** The invite's private key. */
  k: z.string().max(200),
  c: signedSchema,
});

export interface Invite {
  readonly swarm: string;
  readonly relays: readonly string[];
  readonly manifestDigest: string;
  readonly modelName: string;
  readonly identity: Identity;
  readonly certificate: Signed;
}

/** @throws SwarmError named invite for a relay's address that nobody could dial, or without the relay's name, by which it is known to be that relay */
function checkRelay(relay: string): void {
  let names: readonly string[] = [];
  try {
    names = multiaddr(relay)
      .getComponents()
      .map(({ name }) => name);
  } catch {
    // Told below.
  }
  if (!names.includes("ws") && !names.includes("wss")) throw badRelay(relay, "it is no WebSocket's");
  if (names.at(-1) !== "p2p") throw badRelay(relay, "it does not end with the relay's name");
}

function badRelay(relay: string, why: string): SwarmError {
  return new SwarmError(
    "invite",
    `Cannot use '${relay.slice(0, 100)}' as a relay's address: ${why}, expected one such as '/ip4/192.0.2.7/tcp/4001/ws/p2p/12D3Koo...'`,
    { field: "relays", actual: relay, expected: "a multiaddress" },
  );
}

/** @throws SwarmError named invite for a relay's address that is none */
export async function newInvite(
  swarm: Identity,
  about: Pick<Invite, "relays" | "manifestDigest" | "modelName">,
  days = DEFAULT_DAYS,
): Promise<Invite> {
  for (const relay of about.relays) checkRelay(relay);
  const identity = await newIdentity();
  const certificate = await certifyInvite(swarm, identity.id, Date.now() + days * 86_400_000);
  return { swarm: swarm.id, ...about, identity, certificate };
}

export function inviteToText({ swarm, relays, manifestDigest, modelName, identity, certificate }: Invite): string {
  const json = JSON.stringify({ v: 1, s: swarm, r: relays, m: manifestDigest, n: modelName, k: identityToText(identity), c: certificate });
  return PREFIX + btoa(unescapeUtf8(json)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Takes the text itself, or a page's address with the text behind its `#`. @throws SwarmError named invite */
export function inviteFromText(text: string): Invite {
  const trimmed = text.trim();
  const begin = trimmed.indexOf(PREFIX);
  const refuse = (what: string, cause?: unknown): never => {
    throw new SwarmError("invite", `Cannot read the invite: ${what}, expected '${PREFIX}...' as 'shoal swarm create' prints it`, { cause });
  };
  if (begin < 0) return refuse(`it does not contain '${PREFIX}'`);
  if (trimmed.length > MAX_INVITE_CHARACTERS) return refuse(`it has ${trimmed.length} characters`);
  try {
    const encoded = trimmed
      .slice(begin + PREFIX.length)
      .replaceAll("-", "+")
      .replaceAll("_", "/");
    const json = new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0)));
    const { s, r, m, n, k, c } = parseJson(json, schema, "an invite");
    return { swarm: s, relays: r, manifestDigest: m, modelName: n, identity: identityFromText(k), certificate: c };
  } catch (cause) {
    return refuse("it is damaged, or of another version", cause);
  }
}

/** One character a byte, as btoa wants it. */
function unescapeUtf8(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}
