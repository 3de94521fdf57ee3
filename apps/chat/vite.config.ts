/** The page and its model as static files. Development serves the model from where it lies; the build copies it, adds the security policy and the service worker. */
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Plugin, defineConfig } from "vite";

const model = new URL("../../packages/tiny-model/model/", import.meta.url);
const workspace = fileURLToPath(new URL("../../", import.meta.url));

/**
 * The page runs no script but its own. Where it may connect to cannot be known here, for people name models and servers: any over https, and this machine's, which is all
 * that a browser lets a secure page reach.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self' https: http://localhost:* http://127.0.0.1:*",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  // No text becomes HTML or a script: `src/trustedTypes.ts` lets the page's own workers through.
  "require-trusted-types-for 'script'",
  "trusted-types default",
].join("; ");

function securityPolicy(): Plugin {
  return {
    name: "security-policy",
    apply: "build",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
      { tag: "meta", attrs: { name: "referrer", content: "no-referrer" }, injectTo: "head-prepend" },
    ],
  };
}

function modelFiles(): Plugin {
  return {
    name: "model-files",
    apply: "build",
    async generateBundle() {
      for (const name of await readdir(model))
        this.emitFile({ type: "asset", fileName: `model/${name}`, source: await readFile(new URL(name, model)) });
    },
  };
}

/** Puts the list of the page's files, and a name that changes with them, into the service worker. */
function serviceWorker(): Plugin {
  return {
    name: "service-worker",
    apply: "build",
    enforce: "post",
    async generateBundle(_options, bundle) {
      const built = Object.keys(bundle).filter(
        (name) => !/^(?:model\/|index\.html$)/.test(name) && !ON_DEMAND.some((prefix) => name.startsWith(prefix)),
      );
      const lying = await readdir(new URL("./public/", import.meta.url));
      const files = ["./", ...lying.map((name) => `./${name}`), ...built.map((name) => `./${name}`)];
      const page = bundle["index.html"];
      const digest = createHash("sha256").update(JSON.stringify(files));
      if (page?.type === "asset") digest.update(page.source);
      const text = await readFile(new URL("./sw.js", import.meta.url), "utf8");
      const source = text.replace('"FILES"', JSON.stringify(files)).replace("page-VERSION", `page-${digest.digest("hex").slice(0, 16)}`);
      this.emitFile({ type: "asset", fileName: "sw.js", source });
    },
  };
}

/** All that an answer needs that must follow a grammar, which this page never asks for: fetched by whoever does. */
const GRAMMARS = "assets/grammars-";
/** A member of a swarm, libp2p and all: fetched when a swarm is entered. */
const SWARM = "assets/swarm-worker-";
/** What only a page with two GPUs needs. */
const SECOND = "assets/second-";
const ON_DEMAND = [GRAMMARS, SWARM, SECOND];

function workerName({ facadeModuleId, moduleIds }: Chunk): string {
  const isGrammars = /engine\/src\/constrained\//.test(facadeModuleId ?? "") || moduleIds.some((id) => id.includes("web-xgrammar"));
  const isSwarm = /web\/src\/swarm\/worker/.test(facadeModuleId ?? "") || moduleIds.some((id) => id.includes("/libp2p/"));
  if (isSwarm) return `${SWARM}[hash].js`;
  const isSecond = /web\/src\/(?:stageWorker|secondDevice|loadBoth)\.ts$/.test(facadeModuleId ?? "");
  // A swarm's worker has these too, within its own.
  if (isSecond || moduleIds.some((id) => id.includes("/packages/cluster/"))) return `${SECOND}[hash].js`;
  return isGrammars ? `${GRAMMARS}[hash].js` : "assets/[name]-[hash].js";
}

interface Chunk {
  readonly facadeModuleId?: string | null | undefined;
  readonly moduleIds: readonly string[];
}

export default defineConfig(({ command }) => ({
  root: fileURLToPath(new URL("./", import.meta.url)),
  base: "./",
  define: { MODEL_URL: JSON.stringify(command === "serve" ? `/@fs${model.pathname}` : "./model/") },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: { target: "es2023", modulePreload: { polyfill: false } },
  worker: { format: "es", rolldownOptions: { output: { entryFileNames: workerName, chunkFileNames: workerName } } },
  server: { fs: { allow: [workspace] } },
  plugins: [securityPolicy(), modelFiles(), serviceWorker()],
}));
