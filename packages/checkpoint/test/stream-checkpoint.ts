/**
 * Opens a checkpoint and streams its weights as a loader does, in a process of its own, and prints what memory that took.
 *
 *   deno run -A stream-checkpoint.ts DIRECTORY BYTES
 *
 * First one slice out of each of 64 tensors spread over the files, then whole tensors in order until BYTES have been read.
 */
import process from "node:process";

import { openDirectory } from "../src/directory.ts";
import { validateCheckpoint } from "../src/validate.ts";

const [directory = "", budget = "0"] = process.argv.slice(2);
const rss = () => process.memoryUsage().rss;
const idle = rss();
let peak = idle;
let bytes = 0;
let slices = 0;
let sum = 0;

const checkpoint = await openDirectory(directory);
validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors);
const tensors = [...checkpoint.tensors.tensors.values()];
const fileBytes = Math.max(...tensors.map((tensor) => tensor.end));

const read = async (name: string, limit: number) => {
  let left = limit;
  for await (const slice of checkpoint.tensors.readSlices(name)) {
    // Touches the bytes, as an upload would.
    sum += (slice[0] ?? 0) + (slice.at(-1) ?? 0);
    bytes += slice.byteLength;
    left -= slice.byteLength;
    slices++;
    peak = Math.max(peak, rss());
    if (left <= 0) return;
  }
};

for (let i = 0; i < 64; i++) await read(tensors[Math.floor((i * (tensors.length - 1)) / 63)]?.name ?? "", 1);
for (const tensor of tensors) {
  if (bytes >= Number(budget)) break;
  await read(tensor.name, Number(budget) - bytes);
}
await checkpoint.close();
process.stdout.write(JSON.stringify({ idle, peak, bytes, slices, sum, fileBytes, tensors: tensors.length }));
