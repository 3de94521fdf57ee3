/** Builds the chat page, serves it to this machine alone, and opens it in the browser. */
import path from "node:path";
import { ensureReady } from "./ensure.mjs";
import { reportText } from "./errors.mjs";
import { root } from "./paths.mjs";

/** @returns {Promise<number>} the exit code of what went wrong, or 0 while the server runs until Ctrl-C */
export async function startPage() {
  try {
    await ensureReady();
    const { build, preview } = await import("vite");
    const configFile = path.join(root, "apps", "chat", "vite.config.ts");
    await build({ configFile, logLevel: "error" });
    const server = await preview({ configFile, preview: { host: "localhost", open: process.stdout.isTTY } });
    const url = server.resolvedUrls?.local[0] ?? "an unknown address";
    process.stdout.write(`The chat page is at ${url} until Ctrl-C\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`${reportText(error)}\n`);
    return 1;
  }
}
