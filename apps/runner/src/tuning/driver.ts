/** The driver's version, where the system tells it: a table may be worth measuring anew after an update. */
import { readFile } from "node:fs/promises";

const NVIDIA = "/proc/driver/nvidia/version";

export async function driverVersion(vendor: string): Promise<string | null> {
  if (vendor !== "nvidia") return null;
  try {
    return /Kernel Module(?: for \S+)?\s+([\d.]+)/.exec(await readFile(NVIDIA, "utf8"))?.[1] ?? null;
  } catch {
    return null;
  }
}
