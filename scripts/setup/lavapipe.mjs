/**
 * Sets up lavapipe, Mesa's Vulkan driver that runs on the CPU, on Debian and its like.
 *
 * Mesa 24 or newer is wanted: Dawn accepts no older lavapipe, and it has f16 and subgroups. Where the release's own Mesa is older it is
 * unpacked from the release's backports into `.shoal/vulkan`; the system's Mesa stays as it is.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { readAptSources } from "./apt.mjs";
import { backportsSource } from "./apt-sources.mjs";
import { must } from "./command.mjs";
import { SetupError } from "./errors.mjs";

const MESA = "mesa-vulkan-drivers";
const LOADER = "libvulkan1";
const MINIMUM_MESA = 24;

/**
 * @typedef {object} LavapipeContext
 * @property {import("./command.mjs").Runner} run
 * @property {import("./apt.mjs").Apt} apt
 * @property {boolean} root may packages be installed
 * @property {{ id: string, like: string[], codename: string }} os
 * @property {string} dir `.shoal/vulkan`
 * @property {(text: string) => void} note
 * @property {{ name: string, text: string }[]} [aptSources]
 */

/**
 * Leaves a Vulkan loader and a lavapipe behind, or throws a SetupError that says which command would.
 * @param {LavapipeContext} context
 * @returns {Promise<string | undefined>} the manifest to give to VK_DRIVER_FILES; undefined when the loader finds the driver by itself
 */
export async function setUpLavapipe(context) {
  const { apt, root, os, note } = context;
  if (root) await apt.update();
  const version = await apt.candidate(MESA);
  if (version !== undefined && majorOf(version) >= MINIMUM_MESA) {
    await requirePackages(context, [LOADER, MESA]);
    return undefined;
  }
  if (os.id === "debian") {
    try {
      return await unpackFromBackports(context);
    } catch (error) {
      // Without root and without the release's Mesa there is nothing to fall back on: say what the better way lacks.
      if (!(error instanceof SetupError) || (!root && (await apt.missing([LOADER, MESA])).length > 0)) throw error;
      note(`${error.report()}\nUsing the release's own Mesa ${version ?? ""} instead: it is slow, and --webgpu dawn does not accept it.`);
    }
  } else {
    note(`This release's Mesa is ${version ?? "unknown"}: it is slow, and --webgpu dawn does not accept one before ${MINIMUM_MESA}.`);
  }
  await requirePackages(context, [LOADER, MESA]);
  return undefined;
}

/**
 * @param {LavapipeContext} context
 * @param {string[]} packages
 */
async function requirePackages({ apt, root }, packages) {
  const missing = await apt.missing(packages);
  if (missing.length === 0) return;
  if (root) await apt.install(missing);
  else throw new SetupError("Cannot install a Vulkan driver: not running as root", { advice: installAdvice(missing) });
}

/** @param {string[]} packages */
export function installAdvice(packages) {
  return `Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages.join(" ")}`;
}

/**
 * @param {LavapipeContext} context
 * @returns {Promise<string>} path of the manifest
 */
async function unpackFromBackports(context) {
  const { run, apt, os, dir } = context;
  const source = backportsSource(context.aptSources ?? readAptSources(), os.codename);
  if (source === undefined)
    throw new SetupError(`Cannot find newer Mesa: the apt sources have no ${os.codename} main to derive its backports from`);
  const workDir = path.join(dir, "work");
  rmSync(workDir, { recursive: true, force: true });
  mkdirSync(path.join(workDir, "lists", "partial"), { recursive: true });
  try {
    const sourceFile = path.join(workDir, "backports.sources");
    writeFileSync(sourceFile, source);
    const deb = await apt.downloadFrom(MESA, `${os.codename}-backports`, { sourceFile, workDir });
    // The package's own list of libraries, in the versions of the release: lavapipe needs nothing newer, the ldd check below tells.
    const { stdout } = await must(run, "read the Mesa package", ["dpkg-deb", ["-f", deb, "Depends"]]);
    await requirePackages(context, dependencyNames(stdout));
    const tree = path.join(workDir, "tree");
    await must(run, "unpack the Mesa package", ["dpkg-deb", ["-x", deb, tree]]);
    return await installTree(run, tree, dir);
  } finally {
    rmSync(workDir, { recursive: true, force: true });
  }
}

/**
 * Keeps lavapipe's library and manifest of an unpacked package; the manifest, written last, makes it usable.
 * @param {import("./command.mjs").Runner} run
 * @param {string} tree
 * @param {string} dir
 */
async function installTree(run, tree, dir) {
  const library = findFile(tree, "libvulkan_lvp.so");
  const manifest = findFile(tree, /^lvp_icd.*\.json$/);
  if (library === undefined || manifest === undefined)
    throw new SetupError("Cannot find lavapipe in the Mesa package: its layout has changed");
  const { output } = await run("ldd", ["-r", library]);
  const unmet = output.split("\n").filter((line) => /not found|undefined symbol/.test(line));
  if (unmet.length > 0) throw new SetupError("Cannot load lavapipe: libraries are missing or too old", { output: unmet.join("\n") });
  const libraryTo = path.join(dir, "libvulkan_lvp.so");
  renameSync(library, libraryTo);
  const contents = JSON.parse(readFileSync(manifest, "utf8"));
  contents.ICD.library_path = libraryTo;
  const manifestTo = path.join(dir, "lvp_icd.json");
  writeFileSync(`${manifestTo}.partial`, `${JSON.stringify(contents, null, 2)}\n`);
  renameSync(`${manifestTo}.partial`, manifestTo);
  return manifestTo;
}

/**
 * @param {string} depends a package's Depends field
 * @returns {string[]} package names; of alternatives the first
 */
export function dependencyNames(depends) {
  return depends
    .split(",")
    .map((entry) => /^\s*([a-z0-9][a-z0-9+.-]*)/.exec(entry)?.[1])
    .filter((name) => name !== undefined);
}

/** @param {string} version a Debian version such as "25.0.7-2~bpo12+1" */
export function majorOf(version) {
  return Number.parseInt(version.replace(/^\d+:/, ""), 10);
}

/**
 * @param {string} dir
 * @param {string | RegExp} name
 * @returns {string | undefined}
 */
function findFile(dir, name) {
  const entry = readdirSync(dir, { recursive: true, withFileTypes: true }).find(
    (file) => file.isFile() && (typeof name === "string" ? file.name === name : name.test(file.name)),
  );
  return entry === undefined ? undefined : path.join(entry.parentPath, entry.name);
}
