import { describe, expect, it } from "vitest";
import { SlicePool } from "./slicePool.ts";

describe("SlicePool", () => {
  it("runs at most as many at once as it has pieces, and lends the same ones again", async () => {
    const pool = new SlicePool(2, 8);
    const lent = new Set<ArrayBuffer>();
    let running = 0;
    let most = 0;
    for (let i = 0; i < 10; i++)
      await pool.start(8, async (memory) => {
        lent.add(memory.buffer);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running--;
      });
    await pool.settle();
    expect({ running, most, lent: lent.size }).toEqual({ running: 0, most: 2, lent: 2 });
  });

  it("gives more than a piece where that is wanted", async () => {
    const pool = new SlicePool(1, 8);
    let bytes = 0;
    await pool.start(9, async (memory) => void (bytes = memory.byteLength));
    await pool.settle();
    expect(bytes).toBe(9);
  });

  it("runs what needs none while all pieces are lent", async () => {
    const pool = new SlicePool(1, 8);
    let finish = (): void => {};
    await pool.start(8, () => new Promise((resolve) => (finish = resolve)));
    let bytes = -1;
    await pool.start(0, async (memory) => void (bytes = memory.byteLength));
    expect(bytes).toBe(0);
    finish();
    await pool.settle();
    await pool.settle();
  });

  it("begins nothing after a failure, and throws it everywhere", async () => {
    const pool = new SlicePool(2, 8);
    let begun = 0;
    const fail = async (): Promise<void> => {
      begun++;
      throw new Error("broken");
    };
    await pool.start(8, fail);
    await new Promise((resolve) => setTimeout(resolve, 1));
    await expect(pool.start(8, fail)).rejects.toThrow("broken");
    await expect(pool.settle()).rejects.toThrow("broken");
    expect(begun).toBe(1);
  });
});
