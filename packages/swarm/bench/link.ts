/**
 * What a hop costs over a real distance: two hosts of a network lab, a link between them over WebRTC.
 *
 *     deno run -A packages/swarm/bench/link.ts [RTT_MS] [LANES,...] [LOSS_PERMILLE] [JITTER_MS]
 *
 * Prints, for each number of lanes: the round trip of 64 bytes, that of one token's 7168 f16 values there and back, their ratio, and the throughput of 1 MiB messages; how much went again because its lane was lost, and lanes
 * that were left.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Netlab } from "../test/netlab/netlab.ts";

const [rtt = "20", lanes = "1,2,4,6,8", loss = "0", jitter = "0"] = Deno.args;
const cable = { delayMs: Number(rtt) / 4, lossPermille: Number(loss) / 2, jitterMs: Number(jitter) / 2 };
const host = fileURLToPath(new URL("./linkHost.ts", import.meta.url));

for (const count of lanes.split(",")) {
  const lab = await Netlab.up([
    { name: "near", ...cable },
    { name: "far", ...cable },
  ]);
  try {
    const start = (role: string) => lab.spawn(role, [Deno.execPath(), "run", "-A", "--quiet", host, role, count, "100"]);
    const near = start("near");
    const far = start("far");
    near.stderr?.pipe(process.stderr);
    far.stderr?.pipe(process.stderr);
    const result = await new Promise<unknown>((resolve, reject) => {
      near.on("exit", () => reject(new Error("The near end ended without a result")));
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const)
        if (from.stdout)
          createInterface({ input: from.stdout }).on("line", (line) => {
            const { signal, result } = JSON.parse(line) as { readonly signal?: unknown; readonly result?: unknown };
            if (signal !== undefined) to.stdin?.write(`${JSON.stringify(signal)}\n`);
            if (result !== undefined) resolve(result);
          });
    });
    console.log(JSON.stringify(result));
  } finally {
    lab.down();
  }
}
Deno.exit(0);
