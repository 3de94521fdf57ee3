/** The machine that this process runs on, as `separate` asks it. */
import type { Machine, Ran } from "./oneGpuEach.ts";
import { gpuFiles } from "./oneGpuEach.ts";

/** A driver that hangs must not hang whoever only looks. */
const LIMIT_MS = 60_000;

export function thisMachine(): Machine {
  const script = new URL("./adaptersProcess.ts", import.meta.url).pathname;
  return { files: gpuFiles(namesIn("/dev"), namesIn("/dev/dri")), run, look: [Deno.execPath(), "run", "--quiet", "-A", script] };
}

function namesIn(folder: string): readonly string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch {
    return [];
  }
}

async function run([program = "", ...args]: readonly string[]): Promise<Ran | undefined> {
  const limit = AbortSignal.timeout(LIMIT_MS);
  try {
    const command = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped", signal: limit });
    const { success, stdout, stderr } = await command.output();
    const text = new TextDecoder();
    return { ok: success, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
