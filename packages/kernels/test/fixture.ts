/** Tensors of the operations' golden file (packages/model/test/fixtures/README.md). */
import { readFileSync } from "node:fs";

const FIXTURE = new URL("../../model/test/fixtures/ops.safetensors", import.meta.url);

/** Bytes of a tensor, by name. */
export function opsFixture(): (name: string) => ArrayBuffer {
  const file = readFileSync(FIXTURE);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(file.toString("utf8", 8, start));
  return (name) => {
    const entry = header[name];
    if (!entry) throw new Error(`Cannot read '${name}': the fixture does not have it`);
    const [from, to] = entry.data_offsets;
    return new Uint8Array(file.subarray(start + from, start + to)).buffer;
  };
}
