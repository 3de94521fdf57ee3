/** Where the Deno of node_modules is: the npm package carries its binary, in a package for each platform. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { SetupError } from "./errors.mjs";

/**
 * The binary itself, not node_modules/.bin/deno: that one is a script which starts Node in between, costing time and swallowing signals.
 * @param {string} root
 * @returns {string}
 */
export function denoBinary(root) {
  const name = process.platform === "win32" ? "deno.exe" : "deno";
  const dir = path.join(root, "node_modules", "deno");
  // The package's install script puts it here.
  const linked = path.join(dir, name);
  if (existsSync(linked)) return linked;
  const libc = process.platform === "linux" ? "-glibc" : "";
  const platformPackage = `@deno/${process.platform}-${process.arch}${libc}/package.json`;
  try {
    const binary = path.join(path.dirname(createRequire(path.join(dir, "package.json")).resolve(platformPackage)), name);
    if (existsSync(binary)) return binary;
  } catch {
    // Reported below.
  }
  throw new SetupError(`Cannot find Deno for ${process.platform} ${process.arch}: the npm package "deno" has installed no binary`, {
    advice: "Remove node_modules and start again; musl-based Linux (Alpine) is not supported by Deno's npm package.",
  });
}
