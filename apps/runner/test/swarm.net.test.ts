/**
 * `shoal relay`, `swarm`, `join`, and `generate --swarm` between hosts of a network lab, 20 ms apart there and back: processes, libp2p, WebRTC, GPUs, nothing left out.
 */
import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { tinyModelUrl } from "@shoal/tiny-model";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { shoal } from "./shoal.ts";
import { type Running, SwarmLab } from "./swarmLab.ts";

/** Half a round trip of 20 ms, of which each end's cable has half. */
const CABLE = { delayMs: 5 };
/** Holds two of the model's six layers, with embedding and head; not the model. */
const MEMORY = "24MB";
const SIZES = ["--memory", MEMORY, "--context", "512", "--max-sequences", "2", "--webgpu", "wgpu"];
/** Holds four of them, or two with the MTP module. */
const DRAFTING = ["--memory", "34MB", "--drafts", "--context", "512", "--max-sequences", "2", "--webgpu", "wgpu"];
const STORY = "Tell me a story about a fox and a river.";
const PROMPT = "What is the capital of France?";
const GENERATE = ["generate", "--temperature", "0", "--max-new-tokens", "24", "--json", PROMPT];

export function tests(): readonly GpuTest[] {
  return [
    {
      name: "one relay and four peers that cannot hold the model each: a client gets what one device gives",
      run: async () => {
        const hosts = ["relay", "one", "two", "three", "four", "client"].map((name) => ({ name, ...CABLE }));
        const swarm = await SwarmLab.up(hosts);
        try {
          const { invite } = await swarm.create("relay");
          const alone = await shoal([...GENERATE, "--webgpu", "wgpu", "--context", "512"]);
          const expected = idsOf(alone.stdout);
          const peers = new Map<string, Running>();
          for (const host of ["one", "two", "three", "four"]) peers.set(host, swarm.start(host, ["join", invite, ...SIZES]));
          const places = await Promise.all([...peers.values()].map((peer) => peer.until(/Serving layers \d+ to \d+/)));
          console.log(`# ${places.map((place) => place.trim().split(" as ")[0]).join("; ")}`);
          assert.deepEqual(idsOf(await swarm.run("client", [...GENERATE, "--swarm", invite])), expected);
          const report = JSON.parse(await swarm.run("client", ["swarm", "status", invite, "--json"])) as {
            readonly missing: readonly number[];
            readonly peers: readonly { readonly layers: unknown }[];
          };
          assert.deepEqual(report.missing, []);
          // The client that has just gone is known for some seconds more.
          assert.equal(report.peers.filter(({ layers }) => layers !== null).length, 4);
        } finally {
          swarm.down();
        }
      },
    },
    {
      name: "a peer that is given nothing but the model's address begins a swarm: it reads what it holds from there, checked by the manifest that lies beside it",
      run: async () => {
        const swarm = await SwarmLab.up(["relay", "one", "client"].map((name) => ({ name, ...CABLE })));
        const folder = mkdtempSync(join(tmpdir(), "shoal-address-"));
        try {
          const { invite } = await swarm.create("relay");
          cpSync(fileURLToPath(tinyModelUrl), folder, { recursive: true });
          const address = await swarm.serve("one", folder);
          const joining = ["join", invite, "--memory", "200MB", ...SIZES.slice(2), "--model", address];
          const manifests = join(swarm.cache("relay"), "swarm", "manifests");
          const [manifest = ""] = readdirSync(manifests);
          copyFileSync(join(manifests, manifest), join(folder, "shoal-manifest.json"));
          await swarm.start("one", joining).until("Serving layers 0 to 5");
          const expected = idsOf((await shoal([...GENERATE, "--webgpu", "wgpu", "--context", "512"])).stdout);
          assert.deepEqual(idsOf(await swarm.run("client", [...GENERATE, "--swarm", invite])), expected);
        } finally {
          swarm.down();
          rmSync(folder, { recursive: true, force: true });
        }
      },
    },
    {
      name: "two peers, the second with the MTP module: a prompt's answer is what one device gives",
      run: async () => {
        const swarm = await SwarmLab.up(["relay", "one", "two", "client"].map((name) => ({ name, ...CABLE })));
        try {
          const { invite } = await swarm.create("relay");
          const generate = ["generate", "--temperature", "0", "--max-new-tokens", "100", "--json", STORY];
          const expected = idsOf((await shoal([...generate, "--webgpu", "wgpu", "--context", "512"])).stdout);
          for (const host of ["one", "two"]) await swarm.start(host, ["join", invite, ...DRAFTING]).until(/Serving layers \d+ to \d+/);
          const client = swarm.start("client", [...generate, "--swarm", invite]);
          assert.equal(await client.ended, 0, client.stderr());
          assert.deepEqual(idsOf(client.stdout()), expected);
          assert.match(client.stderr(), /the last one drafts tokens/);
          console.log(`# ${client.stderr().trim().split("\n").at(-1)}; ${client.stdout().slice(-300).trim()}`);
        } finally {
          swarm.down();
        }
      },
    },
  ];
}

function idsOf(stdout: string): readonly number[] {
  const { ids } = JSON.parse(stdout) as { readonly ids: readonly number[] };
  assert.ok(ids.length > 0);
  return ids;
}
