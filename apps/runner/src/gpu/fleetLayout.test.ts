import { readFileSync } from "node:fs";
import { parseConfig } from "@shoal/checkpoint";
import { tinyModelUrl } from "@shoal/tiny-model";
import type { NamedAdapters } from "@shoal/gpu/deno";
import { describe, expect, it } from "vitest";
import { type Adapters, fleetLayout } from "./fleetLayout.ts";
import type { FleetWish } from "./protocol.ts";

const config = parseConfig(JSON.parse(readFileSync(new URL("config.json", tinyModelUrl), "utf8")));

const TWO_ALIKE: readonly NamedAdapters[] = [
  { name: "NVIDIA H100 80GB HBM3", count: 2 },
  { name: "Intel Graphics", count: 1 },
  { name: "llvmpipe (LLVM 15)", count: 1 },
];

/** A machine on which processes can be shown one GPU each, or not. */
function machine(present: readonly NamedAdapters[], permitted: boolean): Adapters & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    present: async () => present,
    separate: async (alike) => {
      asked.push(...alike.map(({ name }) => name));
      const launchers = alike.map(({ name, count }) => [name, Array.from({ length: count }, (_, k) => [`show ${k}`])] as const);
      return permitted
        ? { launchers: new Map(launchers), problems: new Map() }
        : { launchers: new Map(), problems: new Map(alike.map(({ name }) => [name, "it is not permitted"])) };
    },
  };
}

function wish(...members: readonly (string | readonly [string, number])[]): FleetWish {
  const named = members.map((member) => (typeof member === "string" ? ([member, 1] as const) : member));
  return { members: named.map(([name, share]) => ({ name, share })), split: "layers", activations: "f32" };
}

async function had(asked: FleetWish, adapters: Adapters) {
  const { members, layout, notes } = await fleetLayout(asked, config, adapters);
  expect(layout.length).toBe(members.length);
  return { notes, devices: members.map(({ adapterName, launcher = [] }) => [adapterName, ...launcher].join(": ")) };
}

describe("fleetLayout()", () => {
  it("with 'auto' takes every GPU, each of those called alike in a process that is shown it alone", async () => {
    expect(await had(wish("auto"), machine(TWO_ALIKE, true))).toEqual({
      notes: [],
      devices: ["NVIDIA H100 80GB HBM3: show 0", "NVIDIA H100 80GB HBM3: show 1", "Intel Graphics"],
    });
  });

  it("with 'auto' takes one of those called alike, and says what to do, where processes cannot be shown one each", async () => {
    const { notes, devices } = await had(wish("auto"), machine(TWO_ALIKE, false));
    expect(devices).toEqual(["NVIDIA H100 80GB HBM3", "Intel Graphics"]);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain(
      "'NVIDIA H100 80GB HBM3', and only the first is used, because the processes cannot each be shown another: it is not permitted",
    );
    expect(notes[0]).toContain("a plan whose devices' env says which GPU");
  });

  it("gives names in a list that mean the same GPUs one each, in turn", async () => {
    expect((await had(wish("H100", ["NVIDIA", 2]), machine(TWO_ALIKE, true))).devices).toEqual(["H100: show 0", "NVIDIA: show 1"]);
    expect((await had(wish("H100", "H100", "H100"), machine(TWO_ALIKE, true))).devices).toEqual([
      "H100: show 0",
      "H100: show 1",
      "H100: show 0",
    ]);
    expect((await had(wish("H100", "H100"), machine(TWO_ALIKE, false))).devices).toEqual(["H100", "H100"]);
  });

  it("asks for no processes apart where nobody would share a GPU", async () => {
    const adapters = machine(TWO_ALIKE, true);
    expect((await had(wish("H100", "Intel"), adapters)).devices).toEqual(["H100", "Intel"]);
    expect((await had(wish("llvmpipe", "llvmpipe"), adapters)).devices).toEqual(["llvmpipe", "llvmpipe"]);
    expect((await had(wish("H100"), adapters)).devices).toEqual(["H100"]);
    expect(adapters.asked).toEqual([]);
  });

  it("takes processors only where there are no GPUs, and says so where there is nothing", async () => {
    expect((await had(wish("auto"), machine(TWO_ALIKE.slice(2), true))).devices).toEqual(["llvmpipe (LLVM 15)"]);
    await expect(fleetLayout(wish("auto"), config, machine([], true))).rejects.toThrow("--devices auto");
  });

  it("leaves devices of a plan alone whose variables say which GPU they are shown, and gives the others one each", async () => {
    const stages = [0, 1].map((k) => ({
      device: `gpu ${k}`,
      begin: k * 3,
      end: k === 0 ? 3 : config.nLayers,
      firstExpert: 0,
      experts: config.nRoutedExperts,
      helpers: [],
    }));
    const plan = (env?: { readonly DRI_PRIME: string }) =>
      ({
        stages,
        devices: [0, 1].map((k) => ({ name: `gpu ${k}`, adapter: "H100", ...(env && { env }) })),
      }) as unknown as Extract<FleetWish, { readonly plan: unknown }>["plan"];
    expect((await had({ plan: plan(), activations: "f32" }, machine(TWO_ALIKE, true))).devices).toEqual(["H100: show 0", "H100: show 1"]);
    expect((await had({ plan: plan({ DRI_PRIME: "1" }), activations: "f32" }, machine(TWO_ALIKE, true))).devices).toEqual(["H100", "H100"]);
  });
});
