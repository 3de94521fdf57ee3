/**
 * Reads what gpu-decision.mjs decides from: device nodes, driver manifests and libraries. It starts no process and takes milliseconds,
 * so that every start can afford it.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import path from "node:path";

/** Places where containers and distributions put manifests that the Vulkan loader itself does not search. */
const OFF_LOADER_PATH = ["/usr/local/nvidia/share/vulkan/icd.d", "/run/opengl-driver/share/vulkan/icd.d"];

/**
 * @param {{ prefix?: string, platform?: string, env?: Record<string, string | undefined> }} [options] `prefix` stands before every path
 *   (for tests)
 * @returns {import("./gpu-decision.mjs").VulkanSnapshot}
 */
export function readVulkanSnapshot({ prefix = "", platform = process.platform, env = process.env } = {}) {
  const at = (/** @type {string} */ file) => prefix + file;
  const libraryDirs = libraryDirectories(prefix, env);
  const isLibrary = (/** @type {string} */ name) => libraryDirs.some((dir) => existsSync(at(path.join(dir, name))));
  const onPath = loaderManifestDirectories(env).flatMap((dir) => readManifests(prefix, dir, true, isLibrary));
  const offPath = OFF_LOADER_PATH.flatMap((dir) => readManifests(prefix, dir, false, isLibrary));
  return {
    platform,
    env: { VK_DRIVER_FILES: env["VK_DRIVER_FILES"], VK_ICD_FILENAMES: env["VK_ICD_FILENAMES"] },
    loader: isLibrary("libvulkan.so.1"),
    renderDevices: list(at("/dev/dri"))
      .filter((name) => name.startsWith("renderD"))
      .map((name) => ({
        path: `/dev/dri/${name}`,
        vendor: readText(at(`/sys/class/drm/${name}/device/vendor`)).trim(),
        kernelDriver: linkName(at(`/sys/class/drm/${name}/device/driver`)),
      })),
    nvidiaDevice: existsSync(at("/dev/nvidia0")) || list(at("/proc/driver/nvidia/gpus")).length > 0,
    dxgDevice: existsSync(at("/dev/dxg")),
    drivers: [...onPath, ...offPath],
  };
}

/**
 * The directories of the loader's own search, in its order.
 * @param {Record<string, string | undefined>} env
 */
function loaderManifestDirectories(env) {
  const home = env["HOME"] ?? "";
  const bases = [
    env["XDG_CONFIG_HOME"] || path.join(home, ".config"),
    ...(env["XDG_CONFIG_DIRS"] || "/etc/xdg").split(":"),
    "/usr/local/etc",
    "/etc",
    env["XDG_DATA_HOME"] || path.join(home, ".local/share"),
    ...(env["XDG_DATA_DIRS"] || "/usr/local/share:/usr/share").split(":"),
    // The loader searches these two in any case.
    "/usr/local/share",
    "/usr/share",
  ];
  return [...new Set(bases.filter((base) => path.isAbsolute(base)).map((base) => path.join(base, "vulkan/icd.d")))];
}

/**
 * @param {string} prefix
 * @param {string} dir
 * @param {boolean} onLoaderPath
 * @param {(name: string) => boolean} isLibrary
 * @returns {import("./gpu-decision.mjs").VulkanDriver[]}
 */
function readManifests(prefix, dir, onLoaderPath, isLibrary) {
  return list(prefix + dir)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => {
      const manifest = path.join(dir, name);
      const library = libraryPathOf(readText(prefix + manifest));
      if (library === undefined) return [];
      // A bare name is searched like any library; a path is relative to the manifest.
      const libraryFound = library.includes("/") ? existsSync(prefix + path.resolve(dir, library)) : isLibrary(library);
      return [{ manifest, library, libraryFound, onLoaderPath }];
    });
}

/** @param {string} manifestText */
function libraryPathOf(manifestText) {
  try {
    const library = JSON.parse(manifestText)?.ICD?.library_path;
    return typeof library === "string" ? library : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {string} prefix
 * @param {Record<string, string | undefined>} env
 */
function libraryDirectories(prefix, env) {
  const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const configured = list(`${prefix}/etc/ld.so.conf.d`)
    .filter((name) => name.endsWith(".conf"))
    .flatMap((name) => readText(`${prefix}/etc/ld.so.conf.d/${name}`).split("\n"))
    .map((line) => line.trim())
    .filter((line) => line.startsWith("/"));
  const named = (env["LD_LIBRARY_PATH"] ?? "").split(":").filter((dir) => dir.startsWith("/"));
  const standard = [`/usr/lib/${triplet}`, `/lib/${triplet}`, "/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib"];
  return [...new Set([...named, ...configured, ...standard])];
}

/**
 * @param {string} dir
 * @returns {string[]}
 */
function list(dir) {
  try {
    return readdirSync(dir).sort();
  } catch {
    return [];
  }
}

/** @param {string} file */
function readText(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** @param {string} link */
function linkName(link) {
  try {
    return path.basename(readlinkSync(link));
  } catch {
    return "";
  }
}
