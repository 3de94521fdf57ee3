/** Runs the command as a person would, and fails rather than hangs. Deno only. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DenoEngine } from "@shoal/gpu/deno";

const entry = fileURLToPath(new URL("../src/main.ts", import.meta.url));
/** Far above what any of them takes: it only ends those that hang. */
const LIMIT_MS = 300_000;

export interface ShoalResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ShoalOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Sends Ctrl-C when the output so far satisfies this; asked at every piece of output, and now and then. */
  readonly interruptWhen?: (so: { readonly stdout: string; readonly stderr: string }) => boolean;
}

/** @throws where it does not end in time */
export async function shoal(args: readonly string[], options: ShoalOptions = {}): Promise<ShoalResult> {
  const { stdin, env = {}, interruptWhen } = options;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", entry, ...args],
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    // A table that the person has tuned is none of the tests' business.
    env: { NO_COLOR: "1", SHOAL_CACHE_DIR: join(tmpdir(), "shoal-test-without-cache"), ...env },
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  const so = { stdout: "", stderr: "" };
  let interrupted = false;
  const interruptIfWanted = (): void => {
    if (interrupted || interruptWhen?.(so) !== true) return;
    interrupted = true;
    child.kill("SIGINT");
  };
  const asking = setInterval(interruptIfWanted, 100);
  const gather = async (name: "stdout" | "stderr"): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child[name]) {
      so[name] += decoder.decode(chunk, { stream: true });
      interruptIfWanted();
    }
  };
  try {
    const gathering = Promise.all([gather("stdout"), gather("stderr")]);
    if (stdin !== undefined) {
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(stdin));
      await writer.close();
    }
    const [{ code }] = await Promise.all([child.status, gathering]);
    if (timedOut) throw new Error(`'shoal ${args.join(" ")}' did not end in ${LIMIT_MS} ms; stdout: ${so.stdout}; stderr: ${so.stderr}`);
    return { code, ...so };
  } finally {
    clearTimeout(timer);
    clearInterval(asking);
  }
}

/** The arguments that choose an engine. */
export function on(engine: DenoEngine): readonly string[] {
  return ["--webgpu", engine];
}

/** Runs `work` with a directory that is gone afterwards. */
export async function withDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await Deno.makeTempDir({ prefix: "shoal-test-" });
  try {
    return await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
