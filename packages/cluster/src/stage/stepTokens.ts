/** What a frame on its way to a stage asks for: for whoever passes frames on, and counts. */
import { z } from "zod";
import type { Frame } from "../wire/channel.ts";
import { decodeFrame } from "../wire/frame.ts";
import { entryRows } from "./messages.ts";
import * as schemas from "./schemas.ts";

const stepSchema = z.object({ batch: schemas.batch });

const STEPS: readonly string[] = ["forward", "forwardTold", "forwardDrafted", "forwardHanded"];

/** Tokens to be computed: 0 for everything but a step, and for what the stage will refuse. */
export function stepTokens(frame: Frame): number {
  try {
    const { kind, method, body } = decodeFrame(frame);
    if (kind !== "call" || !STEPS.includes(method ?? "")) return 0;
    return stepSchema.parse(body).batch.entries.reduce((sum, { tokens, verify = 0 }) => sum + entryRows({ tokens, verify }), 0);
  } catch {
    // Refusing is the stage's business.
    return 0;
  }
}

/** Whether it asks for KV rows: its client is about to go on elsewhere. */
export function asksForKv(frame: Frame): boolean {
  try {
    const { kind, method } = decodeFrame(frame);
    return kind === "call" && method === "exportKv";
  } catch {
    return false;
  }
}
