/**
 * Where things are in a checkout. Everything that setup makes, other than node_modules, is under `.shoal/`, so that removing that folder
 * undoes it.
 */
import { fileURLToPath } from "node:url";
import path from "node:path";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..", "..");
export const stateDir = path.join(root, ".shoal");

/** The `shoal` command's entry, relative to the root. */
export const runnerEntry = path.join("apps", "runner", "src", "main.ts");

/**
 * What Deno is run with. A request's signal that aborts only when the client has gone is Deno's coming default; without asking for it, Deno warns whoever watches one, at a server's first answer
 * (https://docs.deno.com/runtime/reference/deno_serve_legacy_abort/).
 */
export const runnerFlags = ["--quiet", "-A", "--unstable-no-legacy-abort"];
