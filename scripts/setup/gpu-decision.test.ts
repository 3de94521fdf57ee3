import { describe, expect, it } from "vitest";
import { decideGpu } from "./gpu-decision.mjs";
import type { RenderDevice, VulkanDriver, VulkanSnapshot } from "./gpu-decision.mjs";

function driver(name: string, more: Partial<VulkanDriver> = {}): VulkanDriver {
  return { manifest: `/usr/share/vulkan/icd.d/${name}.json`, library: `lib${name}.so`, libraryFound: true, onLoaderPath: true, ...more };
}

function renderNode(vendor: string, kernelDriver = ""): RenderDevice {
  return { path: "/dev/dri/renderD128", vendor, kernelDriver };
}

function machine(more: Partial<VulkanSnapshot>): VulkanSnapshot {
  return {
    platform: "linux",
    env: {},
    loader: true,
    renderDevices: [],
    nvidiaDevice: false,
    dxgDevice: false,
    drivers: [],
    ...more,
  };
}

/** What Debian's mesa-vulkan-drivers puts on every machine. */
const MESA = ["intel_hasvk_icd.x86_64", "intel_icd.x86_64", "lvp_icd.x86_64", "radeon_icd.x86_64"].map((name) => driver(name));
const lavapipe = MESA[2];

describe("decideGpu()", () => {
  it("leaves macOS and Windows to their own APIs", () => {
    expect(decideGpu(machine({ platform: "darwin" }))).toEqual({ kind: "native" });
    expect(decideGpu(machine({ platform: "win32" }))).toEqual({ kind: "native" });
  });

  it("respects the drivers that the user has chosen", () => {
    expect(decideGpu(machine({ env: { VK_DRIVER_FILES: "/a.json" }, drivers: MESA }))).toEqual({ kind: "user", files: "/a.json" });
    expect(decideGpu(machine({ env: { VK_ICD_FILENAMES: "/b.json" } }))).toEqual({ kind: "user", files: "/b.json" });
  });

  it("finds nothing on a machine without loader and drivers", () => {
    expect(decideGpu(machine({ loader: false }))).toEqual({ kind: "software", lavapipe: undefined, loader: false, undriven: [] });
  });

  it("takes no Mesa driver for a GPU when there is only the loader and no device", () => {
    expect(decideGpu(machine({ drivers: MESA }))).toEqual({ kind: "software", lavapipe, loader: true, undriven: [] });
  });

  it.each([
    ["0x1002", "radeon_icd.x86_64"],
    ["0x8086", "intel_icd.x86_64"],
  ])("prefers a real GPU of vendor %s with its driver %s", (vendor, name) => {
    const decision = decideGpu(machine({ renderDevices: [renderNode(vendor)], drivers: MESA }));
    expect(decision).toMatchObject({ kind: "hardware", loader: true, useManifest: undefined });
    expect(decision.kind === "hardware" && decision.drivers.map((one) => one.manifest)).toContain(`/usr/share/vulkan/icd.d/${name}.json`);
  });

  it("takes NVIDIA's driver without a render node, as in a container", () => {
    const nvidia = driver("nvidia_icd");
    expect(decideGpu(machine({ nvidiaDevice: true, drivers: [...MESA, nvidia] }))).toEqual({
      kind: "hardware",
      drivers: [nvidia],
      loader: true,
      useManifest: undefined,
    });
  });

  it("names the manifest when the loader would not find it", () => {
    const hidden = driver("nvidia_icd", { onLoaderPath: false });
    expect(decideGpu(machine({ nvidiaDevice: true, drivers: [hidden] }))).toMatchObject({
      kind: "hardware",
      useManifest: hidden.manifest,
    });
  });

  it("says that the loader is missing when there is a GPU with its driver", () => {
    expect(decideGpu(machine({ loader: false, nvidiaDevice: true, drivers: [driver("nvidia_icd")] }))).toMatchObject({
      kind: "hardware",
      loader: false,
    });
  });

  it("goes on with software when a GPU's driver has a manifest and no library", () => {
    const broken = driver("nvidia_icd", { libraryFound: false });
    expect(decideGpu(machine({ nvidiaDevice: true, drivers: [...MESA, broken] }))).toEqual({
      kind: "software",
      lavapipe,
      loader: true,
      undriven: ["NVIDIA GPU"],
    });
  });

  it("goes on with software when the only driver is another maker's", () => {
    const decision = decideGpu(machine({ renderDevices: [renderNode("0x10de", "nouveau")], drivers: MESA }));
    expect(decision).toMatchObject({ kind: "software", undriven: ["NVIDIA GPU"] });
  });

  it("uses the GPU that has a driver when there are two", () => {
    const decision = decideGpu(machine({ renderDevices: [renderNode("0x8086"), renderNode("0x10de")], drivers: MESA }));
    expect(decision.kind).toBe("hardware");
  });

  it.each([
    ["0x1af4", "virtio-pci"],
    ["0x15ad", "vmwgfx"],
    ["", "virtio_gpu"],
  ])("takes no virtual display adapter (%s %s) for a GPU", (vendor, kernelDriver) => {
    const drivers = [...MESA, driver("virtio_icd"), driver("gfxstream_vk_icd")];
    expect(decideGpu(machine({ renderDevices: [renderNode(vendor, kernelDriver)], drivers }))).toMatchObject({
      kind: "software",
      undriven: [],
    });
  });

  it("takes an on-chip GPU with a driver of no PCI maker", () => {
    const panfrost = driver("panfrost_icd.aarch64");
    expect(decideGpu(machine({ renderDevices: [renderNode("", "panfrost")], drivers: [...MESA, panfrost] }))).toMatchObject({
      kind: "hardware",
      drivers: [panfrost],
    });
  });

  it("takes a Windows host's GPU through Mesa's dzn only", () => {
    expect(decideGpu(machine({ dxgDevice: true, drivers: MESA }))).toMatchObject({ kind: "software", undriven: ["Windows host's GPU"] });
    const dzn = driver("dzn_icd.x86_64");
    expect(decideGpu(machine({ dxgDevice: true, drivers: [...MESA, dzn] }))).toMatchObject({ kind: "hardware", drivers: [dzn] });
  });
});
