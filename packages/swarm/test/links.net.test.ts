/** The links' contract over real WebRTC, in Deno, in a network namespace that has nothing but a loopback interface. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { LINK_CASES } from "./linkContract.ts";
import { netlabProblem } from "./netlab/netlab.ts";

const HOST = fileURLToPath(new URL("./hosts/contractHost.ts", import.meta.url));
const IN_NAMESPACE = 'ip link set lo up && exec "$@"';

export function tests(): readonly GpuTest[] {
  let output: Promise<string> | undefined;
  return LINK_CASES.map(({ name }) => ({
    name: `a link over WebRTC: ${name}`,
    run: async () => {
      const line = (await (output ??= runHost())).split("\n").find((one) => one.includes(JSON.stringify(name)));
      assert.ok(line, "the host did not get so far");
      assert.deepEqual(JSON.parse(line), { name, ok: true });
    },
  }));
}

function runHost(): Promise<string> {
  const problem = netlabProblem();
  if (problem !== undefined) throw new Error(`Cannot open WebRTC without touching this machine's own interfaces: ${problem}`);
  const child = spawn("unshare", ["-n", "bash", "-c", IN_NAMESPACE, "host", Deno.execPath(), "run", "-A", "--quiet", HOST], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  return new Promise((resolve) => {
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.on("exit", () => resolve(text));
  });
}
