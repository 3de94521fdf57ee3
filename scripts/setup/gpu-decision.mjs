/**
 * Which Vulkan driver this machine should use, decided from a snapshot of it (vulkan-snapshot.mjs reads one). Pure: no file is read here.
 *
 * A GPU counts as real when there is both its device and a Vulkan driver of its maker whose library is present. Either alone is common
 * and useless: distributions install every Mesa driver on machines without a GPU, and containers see a GPU's device without its driver.
 */

/**
 * @typedef {object} VulkanDriver one driver manifest ("ICD")
 * @property {string} manifest path of the json file
 * @property {string} library its library_path
 * @property {boolean} libraryFound
 * @property {boolean} onLoaderPath false when the Vulkan loader finds it only if it is told where
 *
 * @typedef {object} RenderDevice a /dev/dri/renderD* node
 * @property {string} path
 * @property {string} vendor PCI vendor such as "0x10de"; "" for a GPU that is not on PCI
 * @property {string} kernelDriver such as "amdgpu", "virtio-pci"; "" if unknown
 *
 * @typedef {object} VulkanSnapshot
 * @property {string} platform process.platform
 * @property {Record<string, string | undefined>} env
 * @property {boolean} loader is there a libvulkan.so.1
 * @property {RenderDevice[]} renderDevices
 * @property {boolean} nvidiaDevice /dev/nvidia0 or what a container shows of it
 * @property {boolean} dxgDevice the GPU of a Windows host
 * @property {VulkanDriver[]} drivers
 *
 * @typedef {{ kind: "native" }
 *   | { kind: "user", files: string }
 *   | { kind: "hardware", drivers: VulkanDriver[], loader: boolean, useManifest: string | undefined }
 *   | { kind: "software", lavapipe: VulkanDriver | undefined, loader: boolean, undriven: string[] }} GpuDecision
 *   `native`: the system brings its own API (Metal, Direct3D 12). `user`: the user chose drivers. `undriven`: GPUs without a driver
 */

/** What the manifests of software renderers are called: Mesa's lavapipe, SwiftShader. Mesa's gfxstream and virtio need a host's help. */
const SOFTWARE = /lvp|lavapipe|swiftshader|gfxstream|virtio/i;

/** Makers by PCI vendor, and what their drivers' manifests are called. */
const MAKERS = [
  { vendor: "0x10de", name: "NVIDIA", drivers: /nvidia|nouveau/i },
  { vendor: "0x1002", name: "AMD", drivers: /radeon|amd/i },
  { vendor: "0x8086", name: "Intel", drivers: /intel/i },
];

/**
 * @param {VulkanSnapshot} machine
 * @returns {GpuDecision}
 */
export function decideGpu(machine) {
  if (machine.platform !== "linux") return { kind: "native" };
  const files = machine.env["VK_DRIVER_FILES"] || machine.env["VK_ICD_FILENAMES"];
  if (files) return { kind: "user", files };

  const usable = machine.drivers.filter((driver) => driver.libraryFound);
  const hardware = usable.filter((driver) => !SOFTWARE.test(fileName(driver.manifest)));
  /** @type {VulkanDriver[]} */
  const chosen = [];
  /** @type {string[]} */
  const undriven = [];
  for (const gpu of gpusOf(machine)) {
    const matching = hardware.filter((driver) => gpu.matches(fileName(driver.manifest)));
    if (matching.length === 0) undriven.push(gpu.name);
    chosen.push(...matching.filter((driver) => !chosen.includes(driver)));
  }
  if (chosen.length > 0) {
    const hidden = chosen.every((driver) => !driver.onLoaderPath) ? chosen[0]?.manifest : undefined;
    return { kind: "hardware", drivers: chosen, loader: machine.loader, useManifest: hidden };
  }
  const lavapipe = usable.find((driver) => /lvp|lavapipe/i.test(fileName(driver.manifest)) && driver.onLoaderPath);
  return { kind: "software", lavapipe, loader: machine.loader, undriven };
}

/**
 * @param {VulkanSnapshot} machine
 * @returns {{ name: string, matches: (manifest: string) => boolean }[]}
 */
function gpusOf(machine) {
  const vendors = new Set(machine.renderDevices.filter((device) => device.vendor !== "").map((device) => device.vendor));
  // NVIDIA's own driver works without a render node.
  if (machine.nvidiaDevice) vendors.add("0x10de");
  const gpus = MAKERS.filter((maker) => vendors.has(maker.vendor)).map(({ name, drivers }) => ({
    name: `${name} GPU`,
    matches: (/** @type {string} */ manifest) => drivers.test(manifest),
  }));
  // PCI display adapters of other makers are virtual machines' and servers' own: they draw, they have no Vulkan driver.
  if (machine.renderDevices.some((device) => device.vendor === "" && !device.kernelDriver.startsWith("virtio"))) {
    const ofMaker = (/** @type {string} */ manifest) => MAKERS.some((maker) => maker.drivers.test(manifest));
    gpus.push({ name: "on-chip GPU", matches: (manifest) => !ofMaker(manifest) && !/dzn/i.test(manifest) });
  }
  if (machine.dxgDevice) gpus.push({ name: "Windows host's GPU", matches: (manifest) => /dzn/i.test(manifest) });
  return gpus;
}

/** @param {string} file */
function fileName(file) {
  return file.slice(file.lastIndexOf("/") + 1);
}
