/** Serves the test pages by Vite, unbundled, as development does. */
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

/** Of the packages that the pages use. */
const WORKERS = ["web/src/worker.ts", "web/src/stageWorker.ts", "engine/src/constrained/worker.ts"];

export interface PageServer {
  /** With a slash at its end. */
  readonly url: string;
  close(): Promise<void>;
}

/** @param options.publicDir files that are served as they are, beside the pages */
export async function servePages({ publicDir = "" }: { readonly publicDir?: string } = {}): Promise<PageServer> {
  const root = fileURLToPath(new URL("./pages/", import.meta.url));
  const workspace = fileURLToPath(new URL("../", import.meta.url));
  const server = await createServer({
    root,
    configFile: false,
    publicDir: publicDir === "" ? false : publicDir,
    logLevel: "error",
    // Workers too: a dependency that Vite met only when a worker starts would make it bundle all of them anew, and the page would wait for ever for what it had asked for before.
    optimizeDeps: { entries: ["*.html", "*.worker.ts", ...WORKERS.map((file) => `../../packages/${file}`)] },
    // A page under test must not reload because a file was saved.
    server: { host: "localhost", port: 0, hmr: false, watch: null, fs: { allow: [workspace] } },
  });
  await server.listen();
  const url = server.resolvedUrls?.local[0];
  if (url === undefined) throw new Error("Cannot serve the test pages: Vite listens nowhere");
  return { url, close: () => server.close() };
}
