/** Reads the workspace's packages and modules into one graph of who imports what. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { workspaceFolders } from "../setup/workspace.mjs";
import { importsOf } from "./imports.mjs";

const SCOPE = "@shoal/";

/**
 * @typedef {object} Package
 * @property {string} name without the scope
 * @property {string} folder relative to the root
 * @property {string[]} dependencies workspace packages, without the scope
 * @property {string[]} devDependencies likewise
 * @property {Map<string, string[]>} exports subpath such as "." to the files it may mean, relative to the root
 *
 * @typedef {object} Import
 * @property {string} specifier
 * @property {string[]} targets files, relative to the root; several where conditions decide
 * @property {string | undefined} toPackage the workspace package, for a `@shoal/` specifier
 *
 * @typedef {object} Module
 * @property {string} file relative to the root
 * @property {Package} owner
 * @property {boolean} isTest
 * @property {Import[]} imports of files and packages in the workspace only
 */

/**
 * @param {string} root
 * @returns {{ packages: Package[], modules: Module[] }}
 */
export function readWorkspace(root) {
  const packages = workspaceFolders(root).map((folder) => readPackage(root, folder));
  const byName = new Map(packages.map((one) => [one.name, one]));
  const modules = packages.flatMap((owner) => sourceFiles(root, owner.folder).map((file) => readModule(root, file, owner, byName)));
  return { packages, modules };
}

/**
 * @param {string} root
 * @param {string} folder
 * @returns {Package}
 */
function readPackage(root, folder) {
  const manifest = JSON.parse(readFileSync(path.join(root, folder, "package.json"), "utf8"));
  const ours = (/** @type {Record<string, string> | undefined} */ list) =>
    Object.keys(list ?? {}).flatMap((name) => (name.startsWith(SCOPE) ? [name.slice(SCOPE.length)] : []));
  /** @type {Map<string, string[]>} */
  const exports = new Map();
  const declared = manifest.exports ?? {};
  const entries = typeof declared === "string" || !Object.keys(declared).every((key) => key.startsWith(".")) ? { ".": declared } : declared;
  for (const [subpath, target] of Object.entries(entries)) {
    exports.set(
      subpath,
      targetFiles(target).map((file) => path.posix.join(folder, file)),
    );
  }
  return {
    name: String(manifest.name).replace(SCOPE, ""),
    folder,
    dependencies: ours(manifest.dependencies),
    devDependencies: ours(manifest.devDependencies),
    exports,
  };
}

/**
 * @param {unknown} target an exports entry: a file, or conditions
 * @returns {string[]}
 */
function targetFiles(target) {
  if (typeof target === "string") return [target];
  return typeof target === "object" && target !== null ? Object.values(target).flatMap(targetFiles) : [];
}

/**
 * @param {string} root
 * @param {string} folder
 * @returns {string[]} relative to the root
 */
function sourceFiles(root, folder) {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const file = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return ["node_modules", "dist", "fixtures"].includes(entry.name) ? [] : sourceFiles(root, file);
    return entry.isFile() && /\.(?:ts|tsx|mts|js|mjs)$/.test(entry.name) ? [file] : [];
  });
}

/**
 * @param {string} root
 * @param {string} file
 * @param {Package} owner
 * @param {Map<string, Package>} byName
 * @returns {Module}
 */
function readModule(root, file, owner, byName) {
  const imports = importsOf(readFileSync(path.join(root, file), "utf8")).flatMap(
    /** @returns {Import[]} */ (specifier) => {
      if (specifier.startsWith(".")) {
        const target = path.posix.join(path.posix.dirname(file), specifier.replace(/\?.*$/, ""));
        return existsSync(path.join(root, target)) ? [{ specifier, targets: [target], toPackage: undefined }] : [];
      }
      if (!specifier.startsWith(SCOPE)) return [];
      const [toPackage = "", ...subpath] = specifier.slice(SCOPE.length).split("/");
      const targets = resolveExport(byName.get(toPackage)?.exports, [".", ...subpath].join("/"));
      return [{ specifier, targets, toPackage }];
    },
  );
  // Configuration files at a package's top (of Vite, of Playwright) are tooling, and declare what they use as tests do.
  const inside = file.slice(owner.folder.length + 1);
  const isTest = /\.test\.[cm]?tsx?$/.test(file) || /(?:^|\/)test\//.test(inside) || /^[\w-]+\.config\.ts$/.test(inside);
  return { file, owner, isTest, imports };
}

/**
 * @param {Map<string, string[]> | undefined} exports
 * @param {string} subpath
 * @returns {string[]} empty when the package does not export it
 */
function resolveExport(exports, subpath) {
  if (exports === undefined) return [];
  const exact = exports.get(subpath);
  if (exact !== undefined) return exact;
  for (const [pattern, files] of exports) {
    const [before = "", after] = pattern.split("*");
    if (after !== undefined && subpath.startsWith(before) && subpath.endsWith(after)) {
      const middle = subpath.slice(before.length, subpath.length - after.length);
      return files.map((file) => file.replaceAll("*", middle));
    }
  }
  return [];
}
