import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Apt } from "./apt.mjs";
import type { CommandResult, Runner } from "./command.mjs";
import { dependencyNames, majorOf, setUpLavapipe, type LavapipeContext } from "./lavapipe.mjs";

const SOURCES = [{ name: "x.list", text: "deb http://mirror.test/debian bookworm main\n" }];

/** A Debian machine as the commands of setup see it: what is installed, and what its sources offer. */
class FakeDebian {
  readonly calls: string[] = [];
  installed: string[] = [];
  mesa = "22.3.6-1+deb12u2";
  backports = true;
  lddOutput = "";

  readonly run: Runner = async (command, args, options) => {
    this.calls.push([command, ...args.filter((arg) => !arg.startsWith("-o") && arg !== "-qq")].join(" "));
    const ok = (stdout = ""): CommandResult => ({ code: 0, stdout, output: stdout });
    if (command === "apt-cache") return ok(`mesa:\n  Installed: (none)\n  Candidate: ${this.mesa}\n`);
    if (command === "dpkg-query") return ok(this.installed.map((name) => `${name} installed\n`).join(""));
    if (command === "ldd") return ok(this.lddOutput);
    if (command === "apt-get" && args.includes("install")) {
      this.installed.push(...args.slice(args.indexOf("install") + 1));
      return ok();
    }
    if (command === "apt-get" && args.some((arg) => arg.includes("SourceList")) && !this.backports) {
      return { code: 100, stdout: "", output: "E: Failed to fetch" };
    }
    if (command === "apt-get" && args.includes("download")) {
      writeFileSync(path.join(options?.cwd ?? "", "mesa-vulkan-drivers_25.0.7_amd64.deb"), "");
    }
    if (command === "dpkg-deb" && args[0] === "-f") return ok("libvulkan1, libc6 (>= 2.34), libdrm2 (>= 2.4.121), libllvm15 | libllvm16\n");
    if (command === "dpkg-deb" && args[0] === "-x") {
      const tree = args[2] ?? "";
      mkdirSync(path.join(tree, "usr/lib/any"), { recursive: true });
      mkdirSync(path.join(tree, "usr/share/vulkan/icd.d"), { recursive: true });
      writeFileSync(path.join(tree, "usr/lib/any/libvulkan_lvp.so"), "library");
      writeFileSync(
        path.join(tree, "usr/share/vulkan/icd.d/lvp_icd.json"),
        '{"ICD":{"api_version":"1.4","library_path":"libvulkan_lvp.so"}}',
      );
    }
    return ok();
  };
}

describe("setUpLavapipe()", () => {
  let dir = "";
  let notes: string[] = [];

  beforeEach(() => {
    dir = mkdtempSync(path.join(tmpdir(), "shoal-lavapipe-"));
    notes = [];
  });

  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  function setUp(debian: FakeDebian, more: Partial<LavapipeContext> = {}): Promise<string | undefined> {
    return setUpLavapipe({
      run: debian.run,
      apt: new Apt(debian.run),
      root: true,
      os: { id: "debian", like: [], codename: "bookworm" },
      dir,
      note: (text) => notes.push(text),
      aptSources: SOURCES,
      ...more,
    });
  }

  it("unpacks newer Mesa beside the system's on a machine that has nothing", async () => {
    const debian = new FakeDebian();
    const manifest = await setUp(debian);
    expect(manifest).toBe(path.join(dir, "lvp_icd.json"));
    expect(JSON.parse(readFileSync(manifest ?? "", "utf8"))).toEqual({
      ICD: { api_version: "1.4", library_path: path.join(dir, "libvulkan_lvp.so") },
    });
    expect(debian.installed).toEqual(["libvulkan1", "libc6", "libdrm2", "libllvm15"]);
    expect(readdirSync(dir).sort()).toEqual(["libvulkan_lvp.so", "lvp_icd.json"]);
    expect(notes).toEqual([]);
  });

  it("installs only what is missing, and fetches package lists once", async () => {
    const debian = new FakeDebian();
    debian.installed = ["libvulkan1", "libc6", "libdrm2"];
    await setUp(debian);
    expect(debian.calls.filter((call) => call.includes(" install "))).toEqual(["apt-get -y --no-install-recommends install libllvm15"]);
    expect(debian.calls.filter((call) => call === "apt-get update")).toHaveLength(2); // the system's, and the private one
  });

  it("takes the release's own Mesa where it is new enough", async () => {
    const debian = new FakeDebian();
    debian.mesa = "25.0.7-2";
    expect(await setUp(debian, { os: { id: "ubuntu", like: ["debian"], codename: "noble" } })).toBeUndefined();
    expect(debian.installed).toEqual(["libvulkan1", "mesa-vulkan-drivers"]);
  });

  it("falls back on the release's older Mesa, and says so, when backports cannot be reached", async () => {
    const debian = new FakeDebian();
    debian.backports = false;
    expect(await setUp(debian)).toBeUndefined();
    expect(debian.installed).toEqual(["libvulkan1", "mesa-vulkan-drivers"]);
    expect(notes.join("\n")).toContain("bookworm-backports");
    expect(notes.join("\n")).toContain("E: Failed to fetch");
    expect(existsSync(path.join(dir, "work"))).toBe(false);
  });

  it("falls back when a library is missing, and leaves no manifest that cannot work", async () => {
    const debian = new FakeDebian();
    debian.lddOutput = "\tlibzstd.so.1 => not found\n";
    expect(await setUp(debian)).toBeUndefined();
    expect(notes.join("\n")).toContain("libzstd.so.1 => not found");
    expect(readdirSync(dir)).toEqual([]);
  });

  it("prints the command when not running as root and packages are missing", async () => {
    const debian = new FakeDebian();
    debian.mesa = "25.0.7-2";
    await expect(setUp(debian, { root: false })).rejects.toMatchObject({
      advice: "Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers",
    });
    expect(debian.calls.some((call) => call.startsWith("apt-get"))).toBe(false);
  });

  it("asks for the newer Mesa's libraries when not running as root on a machine that has nothing", async () => {
    await expect(setUp(new FakeDebian(), { root: false })).rejects.toMatchObject({
      advice: "Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends libvulkan1 libc6 libdrm2 libllvm15",
    });
  });

  it("unpacks without root when every library is there", async () => {
    const debian = new FakeDebian();
    debian.installed = ["libvulkan1", "libc6", "libdrm2", "libllvm15"];
    expect(await setUp(debian, { root: false })).toBe(path.join(dir, "lvp_icd.json"));
  });
});

describe("dependencyNames()", () => {
  it("drops versions, and takes the first of alternatives", () => {
    expect(dependencyNames("libvulkan1, libc6 (>= 2.34), a:any, libstdc++6 (>= 11) | b")).toEqual([
      "libvulkan1",
      "libc6",
      "a",
      "libstdc++6",
    ]);
  });
});

describe("majorOf()", () => {
  it("reads past an epoch", () => {
    expect([majorOf("25.0.7-2~bpo12+1"), majorOf("1:24.2.8-1")]).toEqual([25, 24]);
  });
});
