import { describe, expect, it } from "vitest";
import { checkRows } from "./compare.ts";

const COLUMNS = 16;
const rows = (count: number, noise = 0): Float32Array =>
  Float32Array.from({ length: count * COLUMNS }, (_, i) => Math.sin(i * 1.7) + noise * Math.cos(i * 31));

describe("checkRows()", () => {
  it("accepts rounding, and one row in twenty that chose another expert", () => {
    expect(checkRows("rows", rows(20, 1e-4), rows(20), COLUMNS, "plain").middle).toBeLessThan(1e-3);
    const other = rows(20);
    for (let i = 0; i < COLUMNS; i++) other[i] = (other[i] ?? 0) + 0.1 * Math.cos(i);
    expect(checkRows("rows", other, rows(20), COLUMNS, "plain").worst).toBeGreaterThan(0.05);
  });

  it("refuses what rounding does not explain", () => {
    expect(() => checkRows("rows", rows(20, 0.02), rows(20), COLUMNS, "plain")).toThrow("rows of few tokens and of many differ by");
    expect(checkRows("rows", rows(20, 0.02), rows(20), COLUMNS, "subgroup matrices").rows).toBe(20);
    expect(() => checkRows("rows", rows(20, 0.2), rows(20), COLUMNS, "subgroup matrices")).toThrow("differ by");
    const shifted = rows(21).subarray(COLUMNS);
    expect(() => checkRows("rows", shifted, rows(20), COLUMNS, "subgroup matrices")).toThrow("differ by");
  });

  it("refuses rows that are not finite, constant, alike or missing", () => {
    const bad = rows(2);
    bad[20] = Number.NaN;
    expect(() => checkRows("rows", bad, rows(2), COLUMNS, "plain")).toThrow("element 4 of rows, row 1 is NaN");
    const zeros = new Float32Array(2 * COLUMNS);
    expect(() => checkRows("rows", zeros, zeros, COLUMNS, "plain")).toThrow("all of rows, row 0 is 0");
    const alike = new Float32Array([...rows(1), ...rows(1)]);
    expect(() => checkRows("rows", alike, alike, COLUMNS, "plain")).toThrow("the first and the last row of rows are the same");
    expect(() => checkRows("rows", rows(1), rows(2), COLUMNS, "plain")).toThrow("16 values of rows, expected 32");
  });
});
