/** What the machine has besides WebGPU: processors, memory, disk, Vulkan drivers. */
import { readdir, statfs } from "node:fs/promises";
import { availableParallelism, freemem, totalmem } from "node:os";
import process from "node:process";

export interface MachineReport {
  readonly system: string;
  readonly architecture: string;
  readonly deno: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly freeMemoryBytes: number;
  /** On the disk of the current directory; null where that cannot be told. */
  readonly freeDiskBytes: number | null;
  /** Null on systems that do not use Vulkan. */
  readonly vulkan: VulkanReport | null;
}

export interface VulkanReport {
  /** Driver manifests that a Vulkan loader would find. */
  readonly drivers: readonly string[];
  /** Variables that decide which drivers are used, where set. */
  readonly environment: Readonly<Record<string, string>>;
}

const DRIVER_DIRECTORIES = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
const VARIABLES = [
  "VK_DRIVER_FILES",
  "VK_ICD_FILENAMES",
  "VK_ADD_DRIVER_FILES",
  "VK_LOADER_DRIVERS_SELECT",
  "DENO_WEBGPU_BACKEND",
  "MESA_VK_DEVICE_SELECT",
];

export async function examineMachine(): Promise<MachineReport> {
  return {
    system: Deno.build.os,
    architecture: Deno.build.arch,
    deno: Deno.version.deno,
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
    freeDiskBytes: await statfs(process.cwd()).then(
      ({ bavail, bsize }) => bavail * bsize,
      () => null,
    ),
    vulkan: Deno.build.os === "linux" ? await examineVulkan() : null,
  };
}

async function examineVulkan(): Promise<VulkanReport> {
  const environment = Object.fromEntries(VARIABLES.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
  const replaced = process.env["VK_DRIVER_FILES"] ?? process.env["VK_ICD_FILENAMES"];
  if (replaced !== undefined) return { drivers: replaced.split(":").filter((file) => file !== ""), environment };
  const lists = await Promise.all(
    DRIVER_DIRECTORIES.map((directory) =>
      readdir(directory).then(
        (names) => names.filter((name) => name.endsWith(".json")).map((name) => `${directory}/${name}`),
        () => [],
      ),
    ),
  );
  return { drivers: lists.flat(), environment };
}
