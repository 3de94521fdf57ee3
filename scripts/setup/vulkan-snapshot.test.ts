import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readVulkanSnapshot } from "./vulkan-snapshot.mjs";

describe("readVulkanSnapshot()", () => {
  let prefix = "";

  beforeEach(() => {
    prefix = mkdtempSync(path.join(tmpdir(), "shoal-vulkan-"));
  });

  afterEach(() => rmSync(prefix, { recursive: true, force: true }));

  function write(file: string, text = ""): void {
    mkdirSync(path.dirname(prefix + file), { recursive: true });
    writeFileSync(prefix + file, text);
  }

  const manifest = (library: string): string => JSON.stringify({ ICD: { library_path: library, api_version: "1.3.0" } });
  const read = (env: Record<string, string> = {}) => readVulkanSnapshot({ prefix, platform: "linux", env: { HOME: "/home/me", ...env } });

  it("sees an empty machine as empty", () => {
    expect(read()).toEqual({
      platform: "linux",
      env: { VK_DRIVER_FILES: undefined, VK_ICD_FILENAMES: undefined },
      loader: false,
      renderDevices: [],
      nvidiaDevice: false,
      dxgDevice: false,
      drivers: [],
    });
  });

  it("finds loader, drivers and their libraries", () => {
    write("/usr/lib/libvulkan.so.1");
    write("/opt/driver/libvulkan_x.so");
    write("/etc/ld.so.conf.d/driver.conf", "# comment\n/opt/driver\n");
    write("/usr/share/vulkan/icd.d/x.json", manifest("libvulkan_x.so"));
    write("/usr/share/vulkan/icd.d/missing.json", manifest("libmissing.so"));
    write("/etc/vulkan/icd.d/absolute.json", manifest("/opt/driver/libvulkan_x.so"));
    write("/home/me/.local/share/vulkan/icd.d/relative.json", manifest("../lib/libr.so"));
    write("/home/me/.local/share/vulkan/lib/libr.so");
    write("/usr/share/vulkan/icd.d/nonsense.json", "{");
    write("/usr/share/vulkan/icd.d/other.txt", manifest("libvulkan_x.so"));
    const { loader, drivers } = read();
    expect(loader).toBe(true);
    expect(drivers.map((driver) => [driver.manifest, driver.libraryFound, driver.onLoaderPath])).toEqual([
      ["/etc/vulkan/icd.d/absolute.json", true, true],
      ["/home/me/.local/share/vulkan/icd.d/relative.json", true, true],
      ["/usr/share/vulkan/icd.d/missing.json", false, true],
      ["/usr/share/vulkan/icd.d/x.json", true, true],
    ]);
  });

  it("finds manifests that only a container's toolkit knows", () => {
    write("/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json", manifest("libGLX_nvidia.so.0"));
    write("/usr/local/nvidia/lib64/libGLX_nvidia.so.0");
    expect(read({ LD_LIBRARY_PATH: "/usr/local/nvidia/lib64" }).drivers).toEqual([
      {
        manifest: "/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json",
        library: "libGLX_nvidia.so.0",
        libraryFound: true,
        onLoaderPath: false,
      },
    ]);
  });

  it("reads a render node's maker and kernel driver", () => {
    write("/dev/dri/renderD128");
    write("/dev/dri/card0");
    write("/sys/class/drm/renderD128/device/vendor", "0x1002\n");
    symlinkSync("../../bus/pci/drivers/amdgpu", `${prefix}/sys/class/drm/renderD128/device/driver`);
    expect(read().renderDevices).toEqual([{ path: "/dev/dri/renderD128", vendor: "0x1002", kernelDriver: "amdgpu" }]);
  });
});
