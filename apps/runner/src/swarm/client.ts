/** Using a swarm: the model over a path of its peers, as if it were here. Needs no GPU. */
import { type ConstraintSource, Engine, Generator, type InferenceEngine, type TokenGenerator } from "@shoal/engine";
import { remoteStage } from "@shoal/cluster";
import type { StageDescription } from "@shoal/model";
import { Auditor, type Hop, type OpenedHop, SwarmStage, choosePath, gaps, inviteFromText, linkChannel } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { UsageError } from "../errors.ts";
import type { OpenModel } from "../model/openModel.ts";
import { enterSwarm } from "./member.ts";

export interface SwarmSession {
  readonly model: OpenModel;
  readonly stage: SwarmStage;
  readonly description: StageDescription;
  readonly generator: () => Promise<TokenGenerator>;
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
  const { config } = checkpoint;
  try {
    peers.announce({
      started: Date.now(),
      state: "client",
      layers: null,
      memoryBytes: 0,
      stepMs: 0,
      load: 0,
      freeKvTokens: 0,
      kind: "deno",
    });
    terminal.err(`Warning: the peers of a swarm can see what passes through them: prompts and answers are not private there\n`);
    const shape = { nLayers: config.nLayers, hiddenSize: config.hiddenSize, vocabSize: config.vocabSize };
    const open = async (hop: Hop): Promise<OpenedHop> => {
      const link = await peers.connect(hop.peer, "stage", signal);
      const remote = remoteStage(linkChannel(link), {
        peer: hop.peer,
        activations: values.activations ?? "f32",
        silenceMs: Number.POSITIVE_INFINITY,
      });
      return {
        stage: remote,
        forwardTold: (batch) => remote.forwardTold(batch),
        lost: remote.lost,
        silentMs: () => link.stats().silentMs,
        close: () => link.close("not needed any more"),
      };
    };
    const auditor = new Auditor({
      ...shape,
      open,
      others: ({ layers: { begin, end } }) =>
        peers.directory
          .peers()
          .filter(({ layers, state }) => state === "serving" && layers?.begin === begin && layers.end === end)
          .sort((a, b) => a.load - b.load)
          .map(({ peer }) => ({ peer, layers: { begin, end } })),
      onLiar: (peer, reason) => {
        peers.ban(peer, reason);
        terminal.err(`Peer ${peer.slice(-8)} is banned: ${reason}\n`);
      },
    });
    const stage = await SwarmStage.open({
      ...shape,
      open,
      onStep: auditor.observe,
      plan: ({ layers, without }) => {
        const rtts = peers.rtts();
        return choosePath({ nLayers: config.nLayers, peers: peers.directory.peers(), rttMs: (peer) => rtts.get(peer), layers, without });
      },
      missing: ({ layers: { begin, end }, without }) => {
        const held = peers.directory
          .peers()
          .flatMap(({ peer, state, layers }) => (layers && state === "serving" && !without.has(peer) ? [layers] : []));
        // Up to where the part begins there is a path.
        return gaps(end, begin > 0 ? [...held, { begin: 0, end: begin }] : held);
      },
      onWait: (what, patienceMs) => terminal.err(`Waiting up to ${Math.round(patienceMs / 1000)} s for peers: ${what}\n`),
      onFault: (peer, fault, error) => {
        if (fault === "lied") peers.ban(peer, error.message);
        else if (fault !== "full") peers.directory.forget(peer);
        terminal.err(`Peer ${peer.slice(-8)} ${fault}: its layers go elsewhere (${error.message})\n`);
      },
    });
    const path = stage.path.map(({ peer, layers }) => `${layers.begin}-${layers.end - 1} on ${peer.slice(-8)}`).join(", ");
    terminal.err(`Swarm of ${manifest.manifest.name}: layers ${path}\n`);
    const model: OpenModel = { name: manifest.manifest.name, location: "", configOverride: undefined, checkpoint, warnings: [] };
    try {
      return await work({
        model,
        stage,
        description: await stage.describe(),
        generator: () => Generator.open(stage),
        // KV blocks of a path belong to its sequences: no prefix is shared.
        engine: (constraints) => Engine.open(stage, { prefixCache: false, drafts: false, constraints }),
      });
    } finally {
      await stage.destroy();
    }
  } finally {
    await checkpoint.close();
    await member.close();
  }
}
