/** What `shoal join` contributes: the GPU worker as the host of a stage, and what of it people are told. */
import { portChannel } from "@shoal/cluster";
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
    const tell = (phase: ContributionPhase): void => {
      if (phase.name === "fetching") {
        const { begin, end } = phase.layers;
        terminal.err(`Taking layers ${begin} to ${end - 1} of ${config.nLayers}, ${formatBytes(phase.bytes)}\n`);
      } else if (phase.name === "serving") {
        const { begin, end } = phase.layers;
        terminal.out(`Serving layers ${begin} to ${end - 1} of ${config.nLayers} as ${member.peers.id}\n`);
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
  return {
    async load(layers, sizes) {
      await client.load(
        {
          location: location ?? "",
          config: undefined,
          mode: values.mode ?? "w8a32",
          kvFormat: values.kv ?? "f16",
          ...sizes,
          maxOutputs: sizes.maxSequences,
          layers,
          chunks: { manifestText, cacheDirectory },
        },
        () => {},
        interrupts.signal,
      );
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
