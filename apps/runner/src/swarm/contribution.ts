/** What `shoal join` contributes: the GPU worker as the host of a stage, and what of it people are told. */
import { portChannel, remoteShard, serveShard } from "@shoal/cluster";
import { Contribution, type ContributionPhase, type Invite, type StageHost } from "@shoal/swarm";
import type { Invocation } from "../command.ts";
import { formatBytes } from "../format.ts";
import type { GpuClient } from "../gpu/client.ts";
import { adapterLine, deviceRequest } from "../gpu/session.ts";
import { contextTokens } from "../model/runOptions.ts";
import { chunkDirectory } from "./chunkCache.ts";
import { enterSwarm } from "./member.ts";

const DEFAULT_MEMORY = 4 * 2 ** 30;
const DEFAULT_SEQUENCES = 8;

/** Enters, takes layers, serves them until it is interrupted, and leaves. */
export async function contribute(invocation: Invocation, client: GpuClient, invite: Invite): Promise<void> {
  const { values, terminal, interrupts } = invocation;
  const opening = client.open(deviceRequest(values), interrupts.signal);
  // Awaited below, once the swarm was entered; a failure before that must not end the process.
  opening.catch(() => {});
  let own: Contribution | undefined;
  const member = await enterSwarm(invite, values, interrupts.signal, (link, purpose) => {
    if (own) void own.use(link, purpose);
    else link.close("this peer has no layers yet");
  });
  try {
    const opened = await opening;
    terminal.err(`Adapter: ${adapterLine(opened)}\n`);
    const { config } = member.checkpoint;
    let waits = "";
    const tell = (phase: ContributionPhase): void => {
      if (phase.name === "fetching") {
        const { begin, end } = phase.layers;
        terminal.err(`Taking layers ${begin} to ${end - 1} of ${config.nLayers}, ${formatBytes(phase.bytes)}\n`);
      } else if (phase.name === "serving") {
        const { begin, end } = phase.layers;
        const { helpers = [] } = phase;
        const shared = helpers.length > 0 ? `, with experts on ${helpers.map((peer) => peer.slice(-8)).join(", ")}` : "";
        terminal.out(`Serving layers ${begin} to ${end - 1} of ${config.nLayers} as ${member.peers.id}${shared}\n`);
      } else if (phase.name === "helping") {
        const { peer, layers, experts } = phase;
        terminal.out(
          `Holding experts ${experts.begin} to ${experts.end - 1} of layers ${layers.begin} to ${layers.end - 1} for ${peer.slice(-8)} as ${member.peers.id}\n`,
        );
      } else if (phase.name === "waiting" && phase.why !== waits) {
        waits = phase.why;
        terminal.err(`Waiting: ${waits}\n`);
      } else if (phase.name === "moving") terminal.err("Others hold these layers, and some are held by nobody: moving\n");
    };
    const contribution = new Contribution({
      member,
      host: gpuHost(invocation, client, member.location, member.manifest.text, chunkDirectory(member.manifest.digest)),
      memoryBytes: values.memory ?? DEFAULT_MEMORY,
      contextTokens: contextTokens(values, config),
      maxSequences: values["max-sequences"] ?? DEFAULT_SEQUENCES,
      kind: "deno",
      // On a processor a draft costs what it saves.
      drafts: values.drafts ?? !opened.adapter.isSoftware,
      onPhase: tell,
    });
    own = contribution;
    await contribution.take(interrupts.signal);
    await interrupts.stoppable(async (signal) => {
      Deno.addSignalListener("SIGTERM", () => interrupts.interrupt());
      await contribution.serve(signal);
    });
  } finally {
    await member.close();
  }
}

function gpuHost(
  { values, interrupts }: Invocation,
  client: GpuClient,
  location: string | undefined,
  manifestText: string,
  cacheDirectory: string,
): StageHost {
  const model = {
    location: location ?? "",
    config: undefined,
    mode: values.mode ?? "w8a32",
    kvFormat: values.kv ?? "f16",
    chunks: { manifestText, cacheDirectory },
  } as const;
  return {
    async load(layers, sizes, _member, elsewhere) {
      const request = { ...model, ...sizes, maxOutputs: sizes.maxSequences, layers };
      if (!elsewhere) {
        await client.load(request, () => {}, interrupts.signal);
        return;
      }
      const { port1, port2 } = new MessageChannel();
      serveShard(portChannel(port1), elsewhere.shard);
      await client.load(request, () => {}, interrupts.signal, { own: elsewhere.own, port: port2 });
    },
    async loadExperts({ layers, begin, end, maxTokens }) {
      const { port1, port2 } = new MessageChannel();
      await client.loadExperts({ ...model, contextTokens: maxTokens, maxTokens, layers }, { begin, end }, port2);
      return remoteShard(portChannel(port1), { peer: "this device", silenceMs: Number.POSITIVE_INFINITY });
    },
    async measure() {
      const { copyBytesPerSecond, readbackMs } = await client.measure();
      return { bytesPerSecond: copyBytesPerSecond, readbackMs };
    },
    async connect() {
      const { port1, port2 } = new MessageChannel();
      await client.serveStage(port2);
      return portChannel(port1);
    },
    async unload() {
      await client.unload();
      await client.open(deviceRequest(values), interrupts.signal);
    },
  };
}
