/**
 * What distance costs a conversation: a client and k peers, each on a host of a network lab, over WebRTC, with a model whose arithmetic takes no time.
 *
 *     deno run -A packages/swarm/bench/decode.ts [RTT_MS] [PEERS,...] [LOSS_PERMILLE] [JITTER_MS] [relayed]
 *
 * Prints, for each k: the median and the 95th percentile of a token, the round trip of an empty call, the token in round trips, and its ratio to k/2 round trips and half a one back, which
 * is what distance alone costs where stages push to one another; with "relayed" as the last argument the client carries everything.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Netlab } from "../test/netlab/netlab.ts";

const [rtt = "20", counts = "1,2,3", loss = "0", jitter = "0", way = "pushed"] = Deno.args;
const cable = { delayMs: Number(rtt) / 4, lossPermille: Number(loss) / 2, jitterMs: Number(jitter) / 2 };
const script = fileURLToPath(new URL("./decodeHost.ts", import.meta.url));

for (const count of counts.split(",")) {
  const names = Array.from({ length: Number(count) }, (_, index) => `peer${index}`);
  const lab = await Netlab.up(["client", ...names].map((name) => ({ name, ...cable })));
  try {
    const start = (name: string) => {
      const child = lab.spawn(name, [Deno.execPath(), "run", "-A", "--quiet", script, name, count, way]);
      child.stderr?.pipe(process.stderr);
      return child;
    };
    const hosts = new Map(["client", ...names].map((name) => [name, start(name)]));
    const result = await new Promise<unknown>((resolve, reject) => {
      for (const [from, child] of hosts) {
        child.on("exit", () => reject(new Error(`'${from}' ended before there was a result`)));
        if (child.stdout)
          createInterface({ input: child.stdout }).on("line", (line) => {
            const { to, result, ...said } = JSON.parse(line) as { readonly to?: string; readonly result?: unknown };
            if (result !== undefined) resolve(result);
            else hosts.get(to ?? "")?.stdin?.write(`${JSON.stringify({ from, ...said })}\n`);
          });
      }
    });
    console.log(JSON.stringify(result));
  } finally {
    lab.down();
  }
}
Deno.exit(0);
