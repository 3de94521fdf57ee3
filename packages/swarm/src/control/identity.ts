/** Who somebody is: an Ed25519 key, named by libp2p's peer id, which holds the public key itself. Swarms, invites and peers are all named so. */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey, PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey, peerIdFromString } from "@libp2p/peer-id";
import { z } from "zod";
import { SwarmError, malformed } from "../errors.ts";
import { parseJson } from "../json.ts";

/** Base58 of an identity multihash of an Ed25519 key. */
export const peerIdSchema = z.string().regex(/^12D3Koo[1-9A-HJ-NP-Za-km-z]{45}$/);

export function isPeerId(text: string): boolean {
  return peerIdSchema.safeParse(text).success;
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

export interface Identity {
  readonly id: string;
  readonly privateKey: PrivateKey;
}

export async function newIdentity(): Promise<Identity> {
  return identityOf(await generateKeyPair("Ed25519"));
}

export function identityOf(privateKey: Ed25519PrivateKey): Identity {
  return { id: peerIdFromPrivateKey(privateKey).toString(), privateKey };
}

/** For a file that only its owner reads. */
export function identityToText({ privateKey }: Identity): string {
  return toBase64(privateKeyToProtobuf(privateKey));
}

/** @throws SwarmError named malformed */
export function identityFromText(text: string): Identity {
  try {
    const key = privateKeyFromProtobuf(fromBase64(text.trim()));
    if (key.type === "Ed25519") return identityOf(key);
  } catch {
    // Told below.
  }
  throw malformed("a private key", "it", "not one", "an Ed25519 key as identityToText writes it");
}

/** A text and who vouches for it. What it is about (`domain`) is signed too, so that no signature can be taken from one place to another. */
export const signedSchema = z.strictObject({
  by: peerIdSchema,
  payload: z.string().max(64 * 1024),
  signature: z.string().length(88).regex(BASE64),
});
export type Signed = z.infer<typeof signedSchema>;

export async function sign(identity: Identity, domain: string, value: unknown): Promise<Signed> {
  const payload = JSON.stringify(value);
  const signature = await identity.privateKey.sign(signedBytes(domain, payload));
  return { by: identity.id, payload, signature: toBase64(signature) };
}

/**
 * @returns what was signed, checked by the schema
 * @throws SwarmError not-a-member for a signature that does not hold, malformed for a payload that is not as expected
 */
export async function verify<Schema extends z.ZodType>(signed: Signed, domain: string, schema: Schema): Promise<z.infer<Schema>> {
  if (!(await holds(signed, domain)))
    throw new SwarmError("not-a-member", `Cannot trust a signature: it is not that of '${signed.by}'`, { field: domain });
  return parseJson(signed.payload, schema, domain);
}

async function holds({ by, payload, signature }: Signed, domain: string): Promise<boolean> {
  try {
    const { publicKey } = peerIdFromString(by);
    return publicKey ? await publicKey.verify(signedBytes(domain, payload), fromBase64(signature)) : false;
  } catch {
    // A name that looks like one and holds no key, or a signature that is no base64.
    return false;
  }
}

export function toBase64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** @throws RangeError for a text that is not the one way to write its bytes: `atob` passes over white space and the last character's spare bits */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  if (toBase64(bytes) !== text) throw new RangeError("Cannot read base64: its spare bits or white space are not as written, expected none");
  return bytes;
}

function signedBytes(domain: string, payload: string): Uint8Array {
  return new TextEncoder().encode(`shoal/${domain}/1\n${payload}`);
}
