import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findChromium } from "./chromium.mjs";
import { runCommand } from "./command.mjs";
import { exportLines, gpuEnvironment } from "./environment.mjs";
import { withLock } from "./lock.mjs";
import { fingerprint, readStamp, writeStamp } from "./stamp.mjs";
import { workspacePatterns } from "./workspace.mjs";

let dir = "";

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "shoal-setup-"));
});

afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("withLock()", () => {
  it("lets one in after the other, and leaves no file", async () => {
    const file = path.join(dir, "setup.lock");
    const events: string[] = [];
    const first = withLock(file, async () => {
      events.push("first in");
      await new Promise((resolve) => setTimeout(resolve, 30));
      events.push("first out");
    });
    const second = withLock(file, async () => events.push("second in"), { onWait: () => events.push("second waits"), pollMs: 5 });
    await Promise.all([first, second]);
    expect(events).toEqual(["first in", "second waits", "first out", "second in"]);
    expect(readdirSync(dir)).toEqual([]);
  });

  it.each([
    ["a process that has ended", "999999999 1"],
    ["another process that has the holder's id now", `${process.pid} 1`],
    ["nobody", ""],
  ])("takes a lock that names %s", async (_, text) => {
    const file = path.join(dir, "setup.lock");
    writeFileSync(file, text);
    expect(await withLock(file, async () => "in")).toBe("in");
    expect(readdirSync(dir)).toEqual([]);
  });

  it("lets go when the work fails", async () => {
    const file = path.join(dir, "setup.lock");
    await expect(withLock(file, () => Promise.reject(new Error("work")))).rejects.toThrow("work");
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe("stamps", () => {
  it("give back what was written, and undefined for a missing or cut-off file", () => {
    const file = path.join(dir, "deep", "stamp.json");
    expect(readStamp(file)).toBeUndefined();
    writeStamp(file, { a: 1 });
    expect(readStamp(file)).toEqual({ a: 1 });
    writeFileSync(file, '{"a":');
    expect(readStamp(file)).toBeUndefined();
  });

  it("fingerprint() tells parts apart however they join", () => {
    expect(fingerprint(["ab", "c"])).not.toBe(fingerprint(["a", "bc"]));
  });
});

describe("gpuEnvironment()", () => {
  const linux = { platform: "linux", stateDir: "/s", driverFiles: "/s/vulkan/lvp_icd.json" };

  it("asks for Vulkan and names the driver on Linux", () => {
    expect(gpuEnvironment({ ...linux, env: {} })).toEqual({
      DENO_NO_UPDATE_CHECK: "1",
      DENO_WEBGPU_BACKEND: "vulkan",
      XDG_RUNTIME_DIR: path.join("/s", "run"),
      VK_DRIVER_FILES: "/s/vulkan/lvp_icd.json",
    });
  });

  it("changes nothing that the user has set", () => {
    const env = { DENO_NO_UPDATE_CHECK: "0", DENO_WEBGPU_BACKEND: "gl", XDG_RUNTIME_DIR: "/run/user/1", VK_ICD_FILENAMES: "/mine.json" };
    expect(gpuEnvironment({ ...linux, env })).toEqual({});
  });

  it("sets no Vulkan variable on macOS", () => {
    expect(gpuEnvironment({ ...linux, platform: "darwin", env: {} })).toEqual({ DENO_NO_UPDATE_CHECK: "1" });
  });
});

describe("exportLines()", () => {
  it("quotes values for a shell", () => {
    expect(exportLines({ A: "it's $HOME" })).toBe("export A='it'\\''s $HOME'\n");
  });
});

describe("runCommand()", () => {
  it("captures output and exit code", async () => {
    const result = await runCommand(process.execPath, ["-e", "console.log('out'); console.error('err'); process.exit(3)"]);
    expect(result).toMatchObject({ code: 3, stdout: "out\n" });
    expect(result.output).toContain("err");
  });

  it("answers 127 when there is no such command", async () => {
    expect((await runCommand(path.join(dir, "none"), [])).code).toBe(127);
  });
});

describe("findChromium()", () => {
  it("prefers CHROMIUM_PATH, and gives nothing when it is wrong", () => {
    const exists = (file: string): boolean => file === "/usr/bin/chromium" || file === "/mine";
    expect(findChromium({ env: { CHROMIUM_PATH: "/mine" }, exists })).toBe("/mine");
    expect(findChromium({ env: { CHROMIUM_PATH: "/wrong" }, exists })).toBeUndefined();
    expect(findChromium({ env: {}, exists })).toBe("/usr/bin/chromium");
  });
});

describe("workspacePatterns()", () => {
  it("reads the packages of this workspace's own file", () => {
    const yaml = readFileSync(path.resolve(import.meta.dirname, "../../pnpm-workspace.yaml"), "utf8");
    expect(workspacePatterns(yaml)).toContain("packages/*");
    expect(workspacePatterns(yaml).every((pattern) => /^[\w-]+(?:\/\*)?$/.test(pattern))).toBe(true);
  });
});
