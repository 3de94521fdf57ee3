import { describe, expect, it } from "vitest";
import { SlicePool } from "./slicePool.ts";

describe("SlicePool", () => {
  it("runs at most as many at once as it has pieces, and lends the same ones again", async () => {
    const pool = new SlicePool(2, () => ({}));
    const lent = new Set<object>();
    let running = 0;
    let most = 0;
    for (let i = 0; i < 10; i++)
      await pool.lend(async (piece) => {
        lent.add(piece);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running--;
      });
    await pool.settle();
    expect({ running, most, lent: lent.size, made: pool.pieces.length }).toEqual({ running: 0, most: 2, lent: 2, made: 2 });
  });

  it("runs what needs none while all pieces are lent", async () => {
    const pool = new SlicePool(1, () => ({}));
    let finish = (): void => {};
    await pool.lend(() => new Promise((resolve) => (finish = resolve)));
    let ran = false;
    await pool.begin(async () => void (ran = true));
    expect(ran).toBe(true);
    finish();
    await pool.settle();
    await pool.settle();
  });

  it("begins nothing after a failure, and throws it everywhere", async () => {
    const pool = new SlicePool(2, () => ({}));
    let begun = 0;
    const fail = async (): Promise<void> => {
      begun++;
      throw new Error("broken");
    };
    await pool.lend(fail);
    await new Promise((resolve) => setTimeout(resolve, 1));
    await expect(pool.lend(fail)).rejects.toThrow("broken");
    await expect(pool.begin(fail)).rejects.toThrow("broken");
    await expect(pool.settle()).rejects.toThrow("broken");
    expect(begun).toBe(1);
  });
});
