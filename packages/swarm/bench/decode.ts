/**
 * What distance costs a conversation: a client and k peers, each on a host of a network lab, over WebRTC, with a model whose arithmetic takes no time.
 *
 *     deno run -A packages/swarm/bench/decode.ts [--rtt MS] [--peers K,...] [--sequences N,...] [--row-ms MS] [--groups N] [--hidden N] [--activations f32|f16] [--loss PERMILLE] [--jitter MS] [--relayed]
 *
 * Prints, for each k and each number of sequences: the median and the 95th percentile of a token of a sequence, the round trip of an empty call, the token in round trips, its ratio to k/2
 * round trips and half a one back with the rows' time in each stage, and tokens a second of all sequences. `--relayed`: the client carries everything. `--row-ms`: what a row takes on a
 * stage, whose rows are computed one after the other. `--groups 1`: sequences wait for one another. `--hidden 7168 --activations f16`: hidden states of DeepSeek-V3's width, made up; each goes to the next stage and to the
 * client.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Netlab } from "../test/netlab/netlab.ts";

const { values } = parseArgs({
  options: {
    rtt: { type: "string", default: "20" },
    peers: { type: "string", default: "1,2,3" },
    sequences: { type: "string", default: "1" },
    "row-ms": { type: "string", default: "0" },
    loss: { type: "string", default: "0" },
    jitter: { type: "string", default: "0" },
    groups: { type: "string", default: "" },
    hidden: { type: "string", default: "" },
    activations: { type: "string", default: "f32" },
    relayed: { type: "boolean", default: false },
  },
});
const cable = { delayMs: Number(values.rtt) / 4, lossPermille: Number(values.loss) / 2, jitterMs: Number(values.jitter) / 2 };
const script = fileURLToPath(new URL("./decodeHost.ts", import.meta.url));

const way = values.relayed ? "relayed" : "pushed";

for (const count of values.peers.split(",")) {
  const names = Array.from({ length: Number(count) }, (_, index) => `peer${index}`);
  const lab = await Netlab.up(["client", ...names].map((name) => ({ name, ...cable })));
  try {
    const start = (name: string) => {
      const child = lab.spawn(name, [
        Deno.execPath(),
        "run",
        "-A",
        "--quiet",
        script,
        name,
        count,
        way,
        values.sequences,
        values["row-ms"],
        values.groups,
        values.hidden,
        values.activations,
      ]);
      child.stderr?.pipe(process.stderr);
      return child;
    };
    const hosts = new Map(["client", ...names].map((name) => [name, start(name)]));
    const results = await new Promise<readonly unknown[]>((resolve, reject) => {
      for (const [from, child] of hosts) {
        child.on("exit", () => reject(new Error(`'${from}' ended before there was a result`)));
        if (child.stdout)
          createInterface({ input: child.stdout }).on("line", (line) => {
            const { to, results, ...said } = JSON.parse(line) as { readonly to?: string; readonly results?: readonly unknown[] };
            if (results) resolve(results);
            else hosts.get(to ?? "")?.stdin?.write(`${JSON.stringify({ from, ...said })}\n`);
          });
      }
    });
    for (const result of results) console.log(JSON.stringify(result));
  } finally {
    lab.down();
  }
}
Deno.exit(0);
