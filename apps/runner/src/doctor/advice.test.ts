import { describe, expect, it } from "vitest";
import { adviceFor } from "./advice.ts";
import type { EngineReport } from "./engine.ts";

const machine = { system: "linux", vulkan: { drivers: ["/usr/share/vulkan/icd.d/lvp_icd.json"], environment: {} } };

function working(engine: EngineReport["engine"], readbackMs: number, isSoftware = false): EngineReport {
  return {
    engine,
    problem: null,
    device: {
      adapter: { vendor: "", architecture: "", device: "", description: "", isSoftware },
      dialect: { engine, subgroups: "directive", subgroupSize: 32, f16: true, timestampQuery: true, fp8Decode: "unpack" },
      limits: { maxStorageBufferBindingSize: 2 ** 31 },
      features: [],
      tuning: { source: "none", file: "/cache/shoal/tuning/x.json", date: null, version: null, operations: 0, problem: null },
    },
    times: { readbackMs, uploadBytesPerSecond: 1e9, copyBytesPerSecond: 500e9 },
  };
}

const broken = (engine: EngineReport["engine"], problem: string): EngineReport => ({ engine, device: null, times: null, problem });

describe("adviceFor()", () => {
  it("says little about a machine where all is well", () => {
    expect(adviceFor(machine, [working("dawn", 0.2), working("wgpu", 1)])).toEqual([
      "Without --webgpu, models run through Dawn: its readback is the faster one.",
      "Decoding reads every used weight once a token: at 500 GB/s a model of 1 GB of used weights makes at most 500 tokens/s.",
    ]);
  });

  it("says that a software adapter is slow, and where readbacks are", () => {
    const text = adviceFor(machine, [working("dawn", 0.5, true), working("wgpu", 11.2, true)]).join("\n");
    expect(text).toContain("runs on the CPU");
    expect(text).toContain("takes 11 ms through wgpu");
    expect(text).toContain("Without --webgpu, models run through Deno's wgpu: on a software adapter");
  });

  it("does not say what is chosen when it looked at one engine only", () => {
    expect(adviceFor(machine, [working("dawn", 0.2)]).join("\n")).not.toContain("Without --webgpu");
  });

  it("says which engine does not work and which is used instead", () => {
    const text = adviceFor(machine, [broken("dawn", "the addon did not load"), working("wgpu", 11)]).join("\n");
    expect(text).toContain("models run through Deno's wgpu");
    expect(text).toContain("Dawn does not work here: the addon did not load");
  });

  it("says how to get an adapter, and which variable hides one", () => {
    const hidden = { system: "linux", vulkan: { drivers: [], environment: { VK_DRIVER_FILES: "/dev/null" } } };
    const text = adviceFor(hidden, [broken("dawn", "none"), broken("wgpu", "none")]).join("\n");
    expect(text).toContain("VK_DRIVER_FILES='/dev/null'");
    expect(text).toContain("There is no Vulkan driver");
    expect(text).toContain("apt-get install mesa-vulkan-drivers");
  });
});
