/** A `shoal serve` of its own process, for tests that look at the process too. Deno only. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runnerFlags } from "../../../scripts/setup/paths.mjs";

const entry = fileURLToPath(new URL("../src/main.ts", import.meta.url));
/** It only ends those that hang. */
const START_LIMIT_MS = 240_000;
const STOP_LIMIT_MS = 30_000;

export interface RunningServer {
  readonly url: string;
  readonly pid: number;
  signal(name: "SIGINT" | "SIGTERM"): void;
  /** When it has ended by itself. */
  readonly ended: Promise<{ readonly code: number; readonly stderr: string }>;
  /** Ends it by SIGTERM, and by force if it takes long. */
  stop(): Promise<{ readonly code: number; readonly stderr: string }>;
}

/** @throws where it does not listen in time */
export async function startServer(args: readonly string[]): Promise<RunningServer> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", ...runnerFlags, entry, "serve", "--port", "0", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", SHOAL_CACHE_DIR: join(tmpdir(), "shoal-test-without-cache") },
  }).spawn();
  let stdout = "";
  let stderr = "";
  let heard = (): void => {};
  const gather = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, take: (text: string) => void): Promise<void> => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      take(text);
      heard();
    }
    heard();
  };
  const gathering = Promise.all([gather(child.stdout, (text) => (stdout += text)), gather(child.stderr, (text) => (stderr += text))]);
  const kill = (): void => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
  };
  const timer = setTimeout(kill, START_LIMIT_MS);
  let ended = false;
  const status = child.status.then((value) => {
    ended = true;
    heard();
    return value;
  });
  let url: string | undefined;
  while ((url = /on (http:\S+)\/v1/.exec(stdout)?.[1]) === undefined) {
    if (ended) throw new Error(`The server never listened: ${stderr}`);
    await new Promise<void>((resolve) => (heard = resolve));
  }
  clearTimeout(timer);
  const whole = Promise.all([status, gathering]).then(([{ code }]) => ({ code, stderr }));
  return {
    url,
    pid: child.pid,
    signal: (name) => child.kill(name),
    ended: whole,
    stop: async () => {
      if (!ended) child.kill("SIGTERM");
      const stopping = setTimeout(kill, STOP_LIMIT_MS);
      const result = await whole;
      clearTimeout(stopping);
      return result;
    },
  };
}
