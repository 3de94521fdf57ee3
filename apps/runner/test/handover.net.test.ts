/** A peer that is interrupted in the middle of an answer, between hosts of a network lab: processes, libp2p, WebRTC, GPUs, nothing left out. */
import assert from "node:assert/strict";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { shoal } from "./shoal.ts";
import { type Running, SwarmLab } from "./swarmLab.ts";

/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
/** For two of the model's six layers each: four peers, so that some are held twice. */
const SIZES = ["--memory", "24MB", "--context", "512", "--max-sequences", "2", "--webgpu", "wgpu"];
const HOSTS = ["one", "two", "three", "four"];
const GENERATE = ["generate", "--temperature", "0", "--max-new-tokens", "160"];
const PROMPT = "Tell me a story about a fox and a river.";

export function tests(): readonly GpuTest[] {
  return [
    {
      name: "a peer that is interrupted in the middle of an answer hands over what it has, and ends; the answer is what one device gives",
      run: async () => {
        const swarm = await SwarmLab.up(["relay", ...HOSTS, "client"].map((name) => ({ name, ...CABLE })));
        try {
          const { invite } = await swarm.create("relay");
          const alone = await shoal([...GENERATE, PROMPT, "--webgpu", "wgpu", "--context", "512"]);
          const peers = HOSTS.map((host) => swarm.start(host, ["join", invite, ...SIZES]));
          const places = await Promise.all(peers.map(async (peer) => placeOf(await peer.until(/Serving layers \d+ to \d+.*\n/), peer)));
          const client = swarm.start("client", [...GENERATE, PROMPT, "--swarm", invite]);
          // Some words of it.
          await client.until(/\w+ \w+ \w+/);
          const leaver = places.find(
            ({ layers, name }) =>
              client.stderr().includes(`on ${name.slice(-8)}`) && places.filter((other) => other.layers === layers).length > 1,
          );
          assert.ok(leaver, `nobody of the path has its layers with another: ${client.stderr()}`);
          // Deno's `ChildProcess.kill` takes the signal for what ended the process.
          Deno.kill(leaver.peer.child.pid ?? 0, "SIGINT");
          const left = performance.now();
          assert.equal(await leaver.peer.ended, 0, leaver.peer.stderr());
          console.log(`# layers ${leaver.layers} were handed over and left within ${Math.round(performance.now() - left)} ms`);
          assert.equal(await client.ended, 0, client.stderr());
          assert.match(client.stderr(), new RegExp(`Peer ${leaver.name.slice(-8)} leaves: \\S+ goes on with what it had`));
          assert.ok(!client.stderr().includes("its layers go elsewhere"), client.stderr());
          assert.equal(client.stdout(), alone.stdout);
        } finally {
          swarm.down();
        }
      },
    },
  ];
}

function placeOf(output: string, peer: Running): { readonly layers: string; readonly name: string; readonly peer: Running } {
  const [, layers = "", name = ""] = /Serving layers (\d+ to \d+) of \d+ as (\S+)/.exec(output) ?? [];
  return { layers, name, peer };
}
