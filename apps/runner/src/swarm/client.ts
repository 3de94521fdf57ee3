/** Using a swarm: the model over a path of its peers, as if it were here. Needs no GPU. */
import { type ConstraintSource, Engine, EngineGenerator, Generator, type InferenceEngine, type TokenGenerator } from "@shoal/engine";
import type { StageDescription } from "@shoal/model";
import { type SwarmStage, announceClient, inviteFromText, openSwarmStage } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { UsageError } from "../errors.ts";
import type { OpenModel } from "../model/openModel.ts";
import { enterSwarm } from "./member.ts";

export interface SwarmSession {
  readonly model: OpenModel;
  readonly stage: SwarmStage;
  readonly description: StageDescription;
  /** For `prompts` that have nothing in common tokens are drafted, where the path can; in a `conversation` each turn finds the ones before it in the cache. */
  readonly generator: (purpose: "prompts" | "conversation") => Promise<TokenGenerator>;
  readonly engine: (constraints: ConstraintSource) => Promise<InferenceEngine>;
}

/** Enters, gives the model to `work`, and leaves, whatever happens. */
export async function withSwarm<T>(
  { values, terminal, interrupts }: Invocation,
  text: string,
  work: (session: SwarmSession) => Promise<T>,
): Promise<T> {
  if (values.devices ?? values.plan)
    throw new UsageError(`Cannot use '--${values.devices ? "devices" : "plan"}' with '--swarm', expected one of them`);
  if (values.activations === "fp8") throw new UsageError("Cannot use '--activations fp8' with '--swarm', expected f32 or f16");
  const { signal } = interrupts;
  const member = await enterSwarm(inviteFromText(text), values, signal);
  const { peers, checkpoint, manifest } = member;
  try {
    announceClient(peers, "deno");
    terminal.err(`Warning: the peers of a swarm can see what passes through them: prompts and answers are not private there\n`);
    const stage = await openSwarmStage(
      member,
      {
        ...(values.activations && { activations: values.activations }),
        onWait: (what, patienceMs) => terminal.err(`Waiting up to ${Math.round(patienceMs / 1000)} s for peers: ${what}\n`),
        onHandover: (peer, successor) => terminal.err(`Peer ${peer.slice(-8)} leaves: ${successor.slice(-8)} goes on with what it had\n`),
        onFault: (peer, fault, error) => terminal.err(`Peer ${peer.slice(-8)} ${fault}: its layers go elsewhere (${error.message})\n`),
        onLiar: (peer, reason) => terminal.err(`Peer ${peer.slice(-8)} is banned: ${reason}\n`),
      },
      signal,
    );
    const path = stage.path.map(({ peer, layers }) => `${layers.begin}-${layers.end - 1} on ${peer.slice(-8)}`).join(", ");
    const model: OpenModel = { name: manifest.manifest.name, location: "", configOverride: undefined, checkpoint, warnings: [] };
    const description = await stage.describe();
    terminal.err(`Swarm of ${manifest.manifest.name}: layers ${path}${description.hasMtp ? "; the last one drafts tokens" : ""}\n`);
    // KV blocks of a path belong to its sequences: no prefix is shared.
    const options = { prefixCache: false } as const;
    let drafting: Engine | undefined;
    try {
      return await work({
        model,
        stage,
        description,
        generator: async (purpose) => {
          if (purpose === "conversation" || !description.hasMtp) return Generator.open(stage);
          return new EngineGenerator((drafting ??= await Engine.open(stage, options)));
        },
        engine: (constraints) => Engine.open(stage, { ...options, constraints }),
      });
    } finally {
      await drafting?.close().catch(() => {});
      await stage.destroy();
    }
  } finally {
    await member.close();
  }
}
