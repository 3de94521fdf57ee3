/**
 * Layers whose experts are on a peer near by, between hosts of a network lab: `shoal` processes, libp2p, WebRTC, GPUs, nothing left out. 0.2 ms apart small peers share layers that none of them
 * could hold; 20 ms apart the same peers do not.
 */
import assert from "node:assert/strict";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { shoal } from "./shoal.ts";
import { type Running, SwarmLab } from "./swarmLab.ts";

/** Of each end's cable, one way: a quarter of the round trip. */
const LAN = { delayMs: 0.05 };
const CITY = { delayMs: 5 };
const SIZES = ["--context", "128", "--max-sequences", "2", "--webgpu", "wgpu"];
/** Of the model's six layers the first two; no layer whole; the last two with the head. */
const FIRST = "14MB";
const SMALL = "9.7MB";
const LAST = "17MB";
const ASK = ["generate", "--temperature", "0", "--max-new-tokens", "100", "Tell me a story about a fox."];
/** Of some seventy tokens the first. */
const BEGUN = /Once upon/;

interface Report {
  readonly missing: readonly number[];
  readonly peers: readonly {
    readonly peer: string;
    readonly state: string;
    readonly layers: unknown;
    readonly experts?: { readonly layers: unknown; readonly own: number; readonly helpers: readonly { readonly peer: string }[] };
  }[];
}

export function tests(): readonly GpuTest[] {
  return [
    {
      name: "0.2 ms apart a stage has its layers' experts on a helper: the same answer, also where helpers are killed while it is given",
      run: () => onHosts(LAN, ["first", "one", "two", "three", "four", "last", "client"], shares),
    },
    { name: "20 ms apart the same peers share nothing", run: () => onHosts(CITY, ["first", "one", "two", "client"], sharesNot) },
  ];
}

async function onHosts(
  cable: { readonly delayMs: number },
  hosts: readonly string[],
  body: (swarm: SwarmLab, invite: string, join: (host: string, memory: string) => Running) => Promise<void>,
): Promise<void> {
  const swarm = await SwarmLab.up(["relay", ...hosts].map((name) => ({ name, ...cable })));
  try {
    const { invite } = await swarm.create("relay");
    const join = (host: string, memory: string): Running => swarm.start(host, ["join", invite, "--memory", memory, ...SIZES]);
    await join("first", FIRST).until(/Serving layers 0 to 1 /);
    await body(swarm, invite, join);
  } finally {
    swarm.down();
  }
}

async function shares(swarm: SwarmLab, invite: string, join: (host: string, memory: string) => Running): Promise<void> {
  const alone = await shoal([...ASK, "--context", "128", "--webgpu", "wgpu"]);
  const expected = alone.stdout;
  assert.ok(expected.length > 10, alone.stderr);
  const both = ["one", "two"].map((host) => join(host, SMALL));
  await Promise.all(
    both.map((peer) => peer.until(/Serving layers 2 to 3 of 6 as \S+, with experts on|Holding experts \d+ to 31 of layers 2 to 3 for/)),
  );
  const helper = both.find((peer) => peer.stdout().includes("Holding"));
  const stage = both.find((peer) => peer !== helper);
  assert.ok(helper && stage && stage.stdout().includes("Serving"));
  await join("last", LAST).until(/Serving layers 4 to 5 /);
  assert.equal(await swarm.run("client", [...ASK, "--swarm", invite]), expected);

  const report = JSON.parse(await swarm.run("client", ["swarm", "status", invite, "--json"])) as Report;
  assert.deepEqual(report.missing, []);
  const helping = report.peers.filter(({ state }) => state === "helping");
  assert.deepEqual(
    report.peers.flatMap(({ experts }) => experts?.helpers.map(({ peer }) => peer) ?? []),
    helping.map(({ peer }) => peer),
  );
  console.log(
    `# ${(await swarm.run("client", ["swarm", "status", invite]))
      .split("\n")
      .filter((line) => line.includes("experts"))
      .join("\n# ")}`,
  );

  // Another loads the same; then the first is killed.
  const spare = join("three", SMALL);
  await spare.until(/Holding experts/);
  const [, name = ""] = /of 6 as (\S+?),/.exec(stage.stdout()) ?? [];
  const stageLost = `Peer ${name.slice(-8)} lost`;
  const spared = await askWhile(swarm, invite, helper);
  assert.equal(await spared.ended, 0, spared.stderr());
  assert.equal(spared.stdout(), expected);
  assert.ok(!spared.stderr().includes(stageLost), spared.stderr());
  // Nobody is left, until somebody comes.
  const client = await askWhile(swarm, invite, spare);
  await join("four", SMALL).until(/Holding experts/);
  assert.equal(await client.ended, 0, client.stderr());
  assert.equal(client.stdout(), expected);
  assert.ok(client.stderr().includes(stageLost), client.stderr());
  console.log(`# ${client.stderr().trim().split("\n").slice(2).join("; ")}`);
}

/** A client whose answer has begun when a helper is killed. */
async function askWhile(swarm: SwarmLab, invite: string, helper: Running): Promise<Running> {
  const client = swarm.start("client", [...ASK, "--swarm", invite]);
  await client.until(BEGUN);
  helper.child.kill("SIGKILL");
  return client;
}

async function sharesNot(swarm: SwarmLab, invite: string, join: (host: string, memory: string) => Running): Promise<void> {
  const both = ["one", "two"].map((host) => join(host, SMALL));
  await Promise.any(both.map((peer) => peer.untilSaid(/Waiting: .* \d\d+\.\d ms away/)));
  const report = JSON.parse(await swarm.run("client", ["swarm", "status", invite, "--json"])) as Report;
  assert.deepEqual(report.missing, [2, 3, 4, 5]);
  assert.deepEqual(
    report.peers.filter(({ state }) => state === "waiting").map(({ layers }) => layers),
    [null, null],
  );
  for (const { stdout } of both) assert.equal(stdout(), "");
}
