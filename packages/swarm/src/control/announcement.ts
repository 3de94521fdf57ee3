/** What a peer says of itself to all, signed: which layers it holds, how fast it is, whom it reaches how quickly. Times in milliseconds. */
import { z } from "zod";
import { SwarmError, malformed } from "../errors.ts";
import { type Identity, type Signed, peerIdSchema, sign, signedSchema, verify } from "./identity.ts";
import { type Membership, type MembershipRules, checkMembership, membershipSchema } from "./membership.ts";

export const MAX_LAYERS = 1024;
const MAX_NEIGHBOURS = 64;
const ms = z.number().min(0).max(3_600_000);
const layer = z.int().min(0).max(MAX_LAYERS);
const range = z.strictObject({ begin: layer, end: layer }).refine(({ begin, end }) => begin < end, "begin before end");
const MAX_HELPERS = 32;
const expert = z.int().min(0).max(4096);

const LAYERLESS: ReadonlySet<string> = new Set(["client", "waiting", "helping"]);

export const announcementSchema = z
  .strictObject({
    peer: peerIdSchema,
    /** SHA-256 of the model's manifest. */
    model: z.string().regex(/^[0-9a-f]{64}$/),
    /** When the peer started, by its own clock, and a count: later ones replace earlier ones. Compared only with the same peer's. */
    started: z
      .int()
      .min(0)
      .max(2 ** 53 - 1),
    number: z
      .int()
      .min(0)
      .max(2 ** 32),
    /**
     * `claiming`: weights are on their way. `leaving`: no new work, please. `waiting`: it would hold layers if others held some of their experts. `helping`: it holds experts for another's
     * layers.
     */
    state: z.enum(["claiming", "serving", "leaving", "client", "waiting", "helping"]),
    /** Layers held, or claimed; null for those who hold none, or none that can be used. */
    layers: range.nullable(),
    /** Of a peer whose layers' routed experts are, or are to be, partly others'. */
    experts: z
      .strictObject({
        /** Those that it has loaded; null before. */
        layers: range.nullable(),
        /** How many of each layer's experts it has itself, from the first on. */
        own: expert,
        /** Who has others, of each of these layers: some have the same. */
        helpers: z
          .array(
            z.strictObject({ peer: peerIdSchema, begin: expert, end: expert }).refine(({ begin, end }) => begin < end, "begin before end"),
          )
          .max(MAX_HELPERS),
        /** Whether one more is wanted. */
        wanted: z.boolean(),
      })
      .optional(),
    /** Of the device, for weights and KV cache; 0 for a client. */
    memoryBytes: z
      .number()
      .min(0)
      .max(2 ** 50),
    /** Measured: one token through all of its layers. */
    stepMs: ms,
    /** Requests under way for each that it could serve at once. */
    load: z.number().min(0).max(1000),
    freeKvTokens: z
      .int()
      .min(0)
      .max(2 ** 31),
    /** Through its layers, of late, prompts included. */
    tokensPerSecond: z.number().min(0).max(1e9),
    rtts: z.record(peerIdSchema, ms).refine((all) => Object.keys(all).length <= MAX_NEIGHBOURS),
    kind: z.enum(["deno", "browser"]),
  })
  .refine(({ state, layers }) => LAYERLESS.has(state) === (layers === null), {
    path: ["layers"],
    message: "null for those who hold none, and for them alone",
  });
export type Announcement = z.infer<typeof announcementSchema>;

/** As it travels: with the membership, so that whoever hears of a peer first by others can check it. */
const envelopeSchema = z.strictObject({ membership: membershipSchema, announcement: signedSchema });
/** Bytes of one, encoded. */
export const MAX_ANNOUNCEMENT_BYTES = 32 * 1024;

export async function encodeAnnouncement(identity: Identity, membership: Membership, announcement: Announcement): Promise<Uint8Array> {
  const signed: Signed = await sign(identity, "announcement", announcement);
  return new TextEncoder().encode(JSON.stringify({ membership, announcement: signed }));
}

/** @throws SwarmError malformed or not-a-member */
export async function decodeAnnouncement(bytes: Uint8Array, rules: MembershipRules): Promise<Announcement> {
  if (bytes.byteLength > MAX_ANNOUNCEMENT_BYTES)
    throw malformed("an announcement", "its length", bytes.byteLength, `at most ${MAX_ANNOUNCEMENT_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw malformed("an announcement", "it", "no JSON", "a JSON object");
  }
  const envelope = envelopeSchema.safeParse(json);
  if (!envelope.success)
    throw malformed("an announcement", `'${envelope.error.issues[0]?.path.join(".")}'`, "not as expected", "an envelope");
  const { membership, announcement: signed } = envelope.data;
  await checkMembership(membership, signed.by, rules);
  const announcement = await verify(signed, "announcement", announcementSchema);
  if (announcement.peer !== signed.by)
    throw new SwarmError("not-a-member", `Cannot take an announcement of '${announcement.peer}' signed by '${signed.by}'`);
  return announcement;
}
