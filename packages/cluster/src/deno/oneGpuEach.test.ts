import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Machine, type Ran, gpuFiles, hiding, separate } from "./oneGpuEach.ts";

const folder = mkdtempSync(join(tmpdir(), "shoal-gpus-"));
afterAll(() => rmSync(folder, { recursive: true }));

const FILES = [0, 1, 2].map((number) => {
  const file = join(folder, `gpu ${number}`);
  writeFileSync(file, "a GPU");
  return file;
});
/** Stands for a driver: every file that is no device is a GPU of the same name; /dev/null is one. */
const LOOK = [
  "sh",
  "-c",
  `n=0; for file in "$@"; do [ -c "$file" ] || n=$((n + 1)); done; printf '[{"name":"GPU","count":%s},{"name":"other","count":1}]' "$n"`,
  "sh",
  ...FILES,
];

async function run([program = "", ...args]: readonly string[]): Promise<Ran | undefined> {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  return error ? undefined : { ok: status === 0, stdout, stderr };
}

const machine: Machine = { files: [FILES], run, look: LOOK };
const refusing: Machine["run"] = async () => ({ ok: false, stdout: "", stderr: "unshare: unshare failed: Operation not permitted\n" });

describe("gpuFiles()", () => {
  it("finds the files of GPUs, in the order of their numbers", () => {
    expect(
      gpuFiles(["null", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia0"], ["by-path", "card0", "renderD129", "renderD128"]),
    ).toEqual([
      ["/dev/nvidia0", "/dev/nvidia2", "/dev/nvidia10"],
      ["/dev/dri/renderD128", "/dev/dri/renderD129"],
    ]);
    expect(gpuFiles(["null"], [])).toEqual([]);
  });
});

describe("hiding()", () => {
  it("names the files, after how many there are, to a shell whose place the program takes", () => {
    const launcher = hiding(["/dev/nvidia0", "/dev/nvidia2"]);
    expect(launcher.slice(0, 5)).toEqual(["unshare", "--mount", "--propagation", "private", "sh"]);
    expect(launcher.slice(-4)).toEqual(["sh", "2", "/dev/nvidia0", "/dev/nvidia2"]);
    expect(hiding([], ["--user", "--map-root-user"]).slice(0, 4)).toEqual(["unshare", "--user", "--map-root-user", "--mount"]);
  });
});

describe("separate()", () => {
  it("gives each process one GPU, by hiding the files of the others from it alone; or says what it would need", async () => {
    const { launchers, problems } = await separate([{ name: "GPU", count: 3 }], machine);
    if (process.platform !== "linux" || problems.size > 0) {
      expect(launchers.size).toBe(0);
      expect(problems.get("GPU")).toMatch(/there is no 'unshare'|may not have a mount namespace of its own \(.*\): expected root/);
      return;
    }
    const shown: unknown[] = [];
    for (const launcher of launchers.get("GPU") ?? []) {
      const there = await run([
        ...launcher,
        "sh",
        "-c",
        'for file in "$@"; do [ -c "$file" ] && echo null || cat "$file"; echo; done',
        "sh",
        ...FILES,
      ]);
      shown.push(there?.stdout.split("\n").filter((line) => line !== ""));
    }
    expect(shown).toEqual([
      ["a GPU", "null", "null"],
      ["null", "a GPU", "null"],
      ["null", "null", "a GPU"],
    ]);
    // Out here nothing is hidden.
    expect((await run(LOOK))?.stdout).toContain('"count":3');
  });

  it("gives out no launcher that was not seen to work", async () => {
    const blind: Machine = { ...machine, run: async () => ({ ok: true, stdout: '[{"name":"GPU","count":3}]', stderr: "" }) };
    const { launchers, problems } = await separate([{ name: "GPU", count: 3 }], blind);
    expect(launchers.size).toBe(0);
    expect(problems.get("GPU")).toContain("0 alone show a process one adapter of that name, expected 3");
    const mute: Machine = { ...machine, run: async () => ({ ok: true, stdout: "no JSON", stderr: "" }) };
    expect((await separate([{ name: "GPU", count: 3 }], mute)).launchers.size).toBe(0);
  });

  it("tells which files show which GPUs where some are of another kind", async () => {
    const kinds = ["A", "B", "A", "B"];
    const files = kinds.map((_, index) => `/dev/nvidia${index}`);
    const mixed: Machine = {
      files: [files],
      look: ["look"],
      run: async (command) => {
        const seen = kinds.filter((_, index) => !command.includes(`/dev/nvidia${index}`));
        const count = (name: string) => ({ name, count: seen.filter((kind) => kind === name).length });
        return { ok: true, stdout: JSON.stringify([count("A"), count("B")].filter((each) => each.count > 0)), stderr: "" };
      },
    };
    const { launchers, problems } = await separate(
      [
        { name: "A", count: 2 },
        { name: "B", count: 2 },
      ],
      mixed,
    );
    expect(problems.size).toBe(0);
    const hidden = (name: string): unknown => launchers.get(name)?.map((launcher) => launcher.slice(-3));
    expect(hidden("A")).toEqual([files.toSpliced(0, 1), files.toSpliced(2, 1)]);
    expect(hidden("B")).toEqual([files.toSpliced(1, 1), files.toSpliced(3, 1)]);
  });

  it("says what it would need where namespaces are not permitted, unshare is not there, or there is nothing to hide", async () => {
    const problem = async (other: Partial<Machine>): Promise<string | undefined> =>
      (await separate([{ name: "GPU", count: 2 }], { ...machine, ...other })).problems.get("GPU");
    expect(await problem({ run: refusing })).toContain(
      "unshare failed: Operation not permitted): expected root with CAP_SYS_ADMIN, or user namespaces",
    );
    expect(await problem({ run: async () => undefined })).toContain("there is no 'unshare'");
    expect(await problem({ files: [] })).toContain("no device files");
    expect(await problem({ files: [["/dev/nvidia0"]] })).toContain("no device files");
  });
});
