/** Which GPUs a page can have. WebGPU gives no list: it is asked for one that is fast and for one that saves power, and where there is one GPU both are it. */

/** A preference for each GPU that differs from those before it: the fast one first. */
export async function distinctPreferences(gpu: Pick<GPU, "requestAdapter">): Promise<readonly GPUPowerPreference[]> {
  const found = new Map<string, GPUPowerPreference>();
  for (const powerPreference of ["high-performance", "low-power"] as const) {
    const info = (await gpu.requestAdapter({ powerPreference }))?.info;
    if (!info) continue;
    const { vendor, architecture, device, description } = info;
    // A processor that stands in for a GPU would only slow the other down.
    if (found.size > 0 && "isFallbackAdapter" in info && info.isFallbackAdapter) continue;
    const called = JSON.stringify([vendor, architecture, device, description]);
    if (!found.has(called)) found.set(called, powerPreference);
  }
  return [...found.values()];
}
