/** Runs a host script in a network namespace that has nothing but a loopback interface, and gives its lines of JSON by name. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { GpuTest } from "../../../../scripts/gpu-tests.ts";
import { netlabProblem } from "../netlab/netlab.ts";

const IN_NAMESPACE = 'ip link set lo up && exec "$@"';

/** One test for each name that the script is to report. */
export function hostTests(script: string, prefix: string, names: readonly string[]): readonly GpuTest[] {
  let output: Promise<string> | undefined;
  return names.map((name) => ({
    name: `${prefix}${name}`,
    run: async () => {
      const line = (await (output ??= runHost(script))).split("\n").find((one) => one.includes(JSON.stringify(name)));
      assert.ok(line, "the host did not get so far");
      assert.deepEqual(JSON.parse(line), { name, ok: true });
    },
  }));
}

function runHost(script: string): Promise<string> {
  const problem = netlabProblem();
  if (problem !== undefined) throw new Error(`Cannot open WebRTC without touching this machine's own interfaces: ${problem}`);
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn("unshare", ["-n", "bash", "-c", IN_NAMESPACE, "host", Deno.execPath(), "run", "-A", "--quiet", file], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  return new Promise((resolve) => {
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.on("exit", () => resolve(text));
  });
}
