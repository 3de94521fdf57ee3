/** What is read back is what was there when it was asked for, whichever buffers it goes through, and a loop that only reads leaves other work its turns. */
import assert from "node:assert/strict";
import { type GpuContext, uploadMemory } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";

const READS = 24;

export function tests(webgpu: DenoEngine): readonly { name: string; run: () => Promise<void> }[] {
  const on = (name: string, run: (gpu: GpuContext) => Promise<void>): { name: string; run: () => Promise<void> } => ({
    name,
    run: async () => {
      const gpu = await openDenoGpu({ webgpu });
      try {
        await run(gpu);
      } finally {
        gpu.destroy();
      }
    },
  });
  const word = async (gpu: GpuContext, buffer: GPUBuffer): Promise<number> => new Uint32Array(await gpu.read(buffer, 4, 4))[0] ?? 0;
  return [
    on("reads, one after another and several at once, give what was written before each, and buffers are not made again", async (gpu) => {
      const buffer = gpu.buffer({ label: "read", size: 16, kind: "scratch" });
      const ask = (value: number): Promise<number> => {
        gpu.write(buffer, 4, new Uint32Array([value]));
        return word(gpu, buffer);
      };
      for (let i = 1; i <= READS; i++) assert.equal(await ask(i), i);
      const { buffers } = gpu.counts;
      for (let i = 1; i <= READS; i++) assert.equal(await ask(READS + i), READS + i);
      assert.equal(gpu.counts.buffers, buffers);
      const values = Array.from({ length: 5 }, (_, index) => 1000 + index);
      for (let round = 0; round < 3; round++) assert.deepEqual(await Promise.all(values.map(ask)), values);
      const all = new Uint32Array(await gpu.read(buffer));
      assert.deepEqual([...all], [0, 1004, 0, 0]);
    }),
    on("a loop that waits for nothing but reads lets timers run", async (gpu) => {
      const buffer = gpu.buffer({ label: "read", size: 16, kind: "scratch" });
      const run = new AbortController();
      setTimeout(() => run.abort(), 0);
      for (let i = 0; i < 1000 && !run.signal.aborted; i++) await word(gpu, buffer);
      assert.ok(run.signal.aborted, "1000 reads went by before a timer of 0 ms");
    }),
    on("memory for uploads sends what is in it, and what is not, each time it is filled", async (gpu) => {
      const memory = uploadMemory(gpu, 256);
      const buffer = gpu.buffer({ label: "uploaded", size: 64, kind: "scratch" });
      for (let round = 1; round <= 3; round++) {
        const bytes = await memory.open();
        bytes.fill(round);
        memory.send(buffer, 0, bytes.subarray(4, 12));
        // A length that only a write can take, and bytes of other memory.
        memory.send(buffer, 16, bytes.subarray(1, 7));
        memory.send(buffer, 32, new Uint8Array(4).fill(100 + round));
        memory.close();
        const read = new Uint8Array(await gpu.read(buffer));
        const expected = new Uint8Array(64)
          .fill(round, 0, 8)
          .fill(round, 16, 22)
          .fill(100 + round, 32, 36);
        assert.deepEqual(read, expected);
      }
      const opened = memory.open();
      await opened;
      memory.destroy();
      assert.equal(gpu.memory.byKind().upload ?? 0, 0);
    }),
    on("a large read, and one of a buffer that was just destroyed, end", async (gpu) => {
      const size = 4 * 2 ** 20;
      const large = gpu.buffer({ label: "large", size, kind: "scratch" });
      gpu.write(large, size - 4, new Uint32Array([7]));
      for (let round = 0; round < 2; round++) assert.equal(new Uint32Array(await gpu.read(large)).at(-1), 7);
      const reading = gpu.read(large, 0, 16);
      gpu.destroyBuffer(large);
      assert.equal((await reading).byteLength, 16);
      assert.equal(gpu.memory.byKind().scratch, 0);
    }),
  ];
}
