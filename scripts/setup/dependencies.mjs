/** Installs the workspace's dependencies with the pnpm version that package.json names, fetched by npx: a machine needs only Node and npm. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { lastLines } from "./command.mjs";
import { SetupError } from "./errors.mjs";
import { fingerprint, readStamp, removeStamp, writeStamp } from "./stamp.mjs";
import { workspaceFolders } from "./workspace.mjs";

/**
 * @param {string} root
 * @param {string} stateDir
 */
export function dependenciesAreInstalled(root, stateDir) {
  // pnpm writes .modules.yaml at the end of an installation; without it node_modules was removed since, or is another tool's.
  return existsSync(path.join(root, "node_modules", ".modules.yaml")) && readStamp(stampFile(stateDir)) === manifestsFingerprint(root);
}

/**
 * @param {string} root
 * @param {string} stateDir
 * @param {import("./command.mjs").Runner} run
 */
export async function installDependencies(root, stateDir, run) {
  removeStamp(stampFile(stateDir));
  const stamp = manifestsFingerprint(root);
  // pm-on-fail: npx has chosen this pnpm; left to itself, pnpm 12 asks the registry about its own version and fails where a mirror lags.
  const args = ["--yes", pnpmPackage(root), "install", "--frozen-lockfile", "--pm-on-fail=ignore", "--reporter=append-only"];
  // CI: pnpm then asks nothing, for example before it removes another tool's node_modules.
  const options = { cwd: root, env: { CI: "true", npm_config_loglevel: "error" } };
  const result = await run("npx", args, options);
  if (result.code !== 0)
    throw new SetupError(`Cannot install the dependencies: pnpm ended with ${result.code}`, {
      output: lastLines(result.output, 15),
      advice: adviceFor(result.output),
    });
  writeStamp(stampFile(stateDir), stamp);
}

/** @param {string} output */
function adviceFor(output) {
  return output.includes("frozen-lockfile")
    ? "A package.json has changed without the lockfile: run `npx pnpm install --pm-on-fail=ignore` and commit pnpm-lock.yaml."
    : "Check that the npm registry can be reached (npm ping), then start again: what was downloaded is kept.";
}

/** @param {string} root */
function pnpmPackage(root) {
  const { packageManager } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  if (typeof packageManager === "string" && /^pnpm@\d+\.\d+\.\d+/.test(packageManager)) return packageManager.replace(/\+.*$/, "");
  throw new SetupError(
    `Cannot tell which pnpm to use: packageManager in package.json is "${String(packageManager)}", expected "pnpm@x.y.z"`,
  );
}

/** @param {string} root */
function manifestsFingerprint(root) {
  const files = [
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "package.json",
    ...workspaceFolders(root).map((folder) => `${folder}/package.json`),
  ];
  // A node_modules from another platform (a shared folder, a copied checkout) has another Deno.
  return fingerprint([process.platform, process.arch, ...files.flatMap((file) => [file, readFileSync(path.join(root, file), "utf8")])]);
}

/** @param {string} stateDir */
function stampFile(stateDir) {
  return path.join(stateDir, "dependencies.json");
}
