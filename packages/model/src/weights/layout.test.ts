import { describe, expect, it } from "vitest";
import { expertsPerPage, mlpSlices, rowParts, sharedFitsGroup } from "./layout.ts";

const limits = { maxStorageBufferBindingSize: 128 * 2 ** 20, maxBufferSize: 256 * 2 ** 20 };

describe("mlpSlices()", () => {
  it.each([
    [18432, { count: 9, width: 2048 }],
    [10944, { count: 2, width: 5504 }],
    [12288, { count: 6, width: 2048 }],
    [1024, { count: 1, width: 1024 }],
    [300, { count: 1, width: 300 }],
  ])("cuts %i into %j", (width, expected) => {
    expect(mlpSlices(width)).toEqual(expected);
  });

  it("covers any width with whole scale blocks", () => {
    for (let width = 1; width < 40_000; width += 97) {
      const { count, width: slice } = mlpSlices(width);
      expect(count * slice).toBeGreaterThanOrEqual(width);
      expect((count - 1) * slice).toBeLessThan(width);
      if (count > 1) expect(slice % 128).toBe(0);
    }
  });
});

describe("rowParts()", () => {
  it("keeps what fits in one part", () => {
    expect(rowParts("w", 1000, 100, "fp8", limits)).toEqual([{ rowStart: 0, rows: 1000 }]);
  });

  it("cuts DeepSeek-V3's lm_head at multiples of 128 rows, each within a binding", () => {
    const parts = rowParts("lm_head", 129280, 7168, "bf16", limits);
    expect(parts.reduce((sum, { rows }) => sum + rows, 0)).toBe(129280);
    for (const [index, { rowStart, rows }] of parts.entries()) {
      expect(rowStart % 128).toBe(0);
      expect(rows * 7168 * 2).toBeLessThanOrEqual(limits.maxStorageBufferBindingSize);
      expect(rowStart).toBe(parts.slice(0, index).reduce((sum, part) => sum + part.rows, 0));
    }
  });

  it("says what is needed when 128 rows do not fit", () => {
    expect(() => rowParts("w", 256, 2 ** 20, "f32", limits)).toThrow(
      /load w: it needs maxStorageBufferBindingSize of 536870912, this adapter has 134217728/,
    );
  });
});

it("expertsPerPage() gives whole experts, or says that one does not fit", () => {
  expect(expertsPerPage("experts", 42 * 2 ** 20, 256, limits)).toBe(3);
  expect(expertsPerPage("experts", 2 ** 20, 4, limits)).toBe(4);
  expect(() => expertsPerPage("experts", 129 * 2 ** 20, 4, limits)).toThrow("maxStorageBufferBindingSize");
});

it("sharedFitsGroup() refuses cuts inside a scale block", () => {
  expect(sharedFitsGroup(2, 1408, "fp8")).toBe(true);
  expect(sharedFitsGroup(2, 48, "fp8")).toBe(false);
  expect(sharedFitsGroup(2, 40, "bf16")).toBe(true);
  expect(sharedFitsGroup(1, 48, "fp8")).toBe(true);
});
