/**
 * The few calls of apt and dpkg that setup makes. Index files are fetched at most once a setup; nothing asks a question.
 */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { must } from "./command.mjs";

const ENV = { DEBIAN_FRONTEND: "noninteractive" };
/** Packages may be locked by a system's own updater for a while; a dead mirror must not hang setup. */
const OPTIONS = ["-oDPkg::Lock::Timeout=120", "-oAcquire::Retries=2", "-oAcquire::http::Timeout=30", "-oAcquire::https::Timeout=30"];

export class Apt {
  /** @type {import("./command.mjs").Runner} */
  #run;
  #updated = false;

  /** @param {import("./command.mjs").Runner} run */
  constructor(run) {
    this.#run = run;
  }

  async update() {
    if (this.#updated) return;
    await must(this.#run, "fetch the package lists", ["apt-get", [...OPTIONS, "-qq", "update"], { env: ENV }]);
    this.#updated = true;
  }

  /** @param {string[]} packages */
  async install(packages) {
    if (packages.length === 0) return;
    await this.update();
    const args = [...OPTIONS, "-qq", "-y", "--no-install-recommends", "install", ...packages];
    const first = await this.#run("apt-get", args, { env: ENV });
    if (first.code === 0) return;
    // What an installation that was cut off leaves behind, and apt's own advice about it.
    if (first.output.includes("dpkg --configure -a")) await this.#run("dpkg", ["--configure", "-a"], { env: ENV });
    await must(this.#run, `install ${packages.join(", ")}`, ["apt-get", args, { env: ENV }]);
  }

  /**
   * @param {string[]} packages
   * @returns {Promise<string[]>} those that are not installed
   */
  async missing(packages) {
    // It exits 1 when it does not know one of them, and still prints the others.
    const { stdout } = await this.#run("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\\n", ...packages]);
    const installed = new Set(
      stdout
        .split("\n")
        .filter((line) => line.endsWith(" installed"))
        .map((line) => line.split(" ")[0]),
    );
    return packages.filter((name) => !installed.has(name));
  }

  /**
   * @param {string} name
   * @returns {Promise<string | undefined>} the version that an installation would bring
   */
  async candidate(name) {
    const { stdout } = await this.#run("apt-cache", ["policy", name], { env: { LC_ALL: "C" } });
    const version = /^\s*Candidate:\s*(\S+)/m.exec(stdout)?.[1];
    return version === "(none)" ? undefined : version;
  }

  /**
   * Downloads one package from one source, leaving the system's sources, lists and packages as they are.
   * @param {string} name
   * @param {string} suite
   * @param {{ sourceFile: string, workDir: string }} where `workDir` gets the lists and the package
   * @returns {Promise<string>} path of the package
   */
  async downloadFrom(name, suite, { sourceFile, workDir }) {
    const lists = path.join(workDir, "lists");
    const options = [
      ...OPTIONS,
      "-qq",
      `-oDir::Etc::SourceList=${sourceFile}`,
      "-oDir::Etc::SourceParts=-",
      `-oDir::State::Lists=${lists}`,
      "-oDir::Cache::pkgcache=",
      "-oDir::Cache::srcpkgcache=",
      // apt's own unprivileged user may not be able to enter the checkout.
      "-oAPT::Sandbox::User=root",
    ];
    await must(this.#run, `fetch the package list of ${suite}`, [
      "apt-get",
      [...options, "-oAPT::Update::Error-Mode=any", "update"],
      { env: ENV },
    ]);
    await must(this.#run, `download ${name} from ${suite}`, [
      "apt-get",
      [...options, "download", `${name}/${suite}`],
      { cwd: workDir, env: ENV },
    ]);
    const file = readdirSync(workDir).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith(".deb"));
    if (file === undefined) throw new Error(`apt-get download left no ${name} package`);
    return path.join(workDir, file);
  }
}

/**
 * @param {string} [etcApt]
 * @returns {{ name: string, text: string }[]} the machine's source files
 */
export function readAptSources(etcApt = "/etc/apt") {
  const parts = path.join(etcApt, "sources.list.d");
  /** @type {string[]} */
  let names = [];
  try {
    names = readdirSync(parts).filter((name) => /\.(list|sources)$/.test(name));
  } catch {
    // A machine may have its only sources in sources.list.
  }
  return [path.join(etcApt, "sources.list"), ...names.sort().map((name) => path.join(parts, name))].flatMap((name) => {
    try {
      return [{ name, text: readFileSync(name, "utf8") }];
    } catch {
      return [];
    }
  });
}

/**
 * @param {string} [file]
 * @returns {{ id: string, like: string[], codename: string }} "" where unknown
 */
export function readOsRelease(file = "/etc/os-release") {
  /** @type {Map<string, string>} */
  const fields = new Map();
  try {
    for (const line of readFileSync(file, "utf8").split("\n")) {
      const match = /^(\w+)="?([^"]*)"?$/.exec(line.trim());
      if (match) fields.set(match[1] ?? "", match[2] ?? "");
    }
  } catch {
    // Not every system has one.
  }
  return { id: fields.get("ID") ?? "", like: (fields.get("ID_LIKE") ?? "").split(" "), codename: fields.get("VERSION_CODENAME") ?? "" };
}
