import { describe, expect, it } from "vitest";
import { e4m3ToNumber, numberToE4m3 } from "./e4m3.ts";

describe("e4m3", () => {
  it("round-trips every finite code", () => {
    for (let code = 0; code < 256; code++) {
      if ((code & 0x7f) === 0x7f) expect(e4m3ToNumber(code)).toBeNaN();
      else expect(numberToE4m3(e4m3ToNumber(code))).toBe(code);
    }
  });

  it("rounds midpoints to the even code, and saturates", () => {
    for (let code = 0; code < 0x7e; code++) {
      const middle = (e4m3ToNumber(code) + e4m3ToNumber(code + 1)) / 2;
      expect(numberToE4m3(middle)).toBe(code % 2 === 0 ? code : code + 1);
      expect(numberToE4m3(middle * (1 - 1e-12))).toBe(code);
      expect(numberToE4m3(-middle * (1 + 1e-12))).toBe(0x80 | (code + 1));
    }
    expect(numberToE4m3(1e9)).toBe(0x7e);
    expect(numberToE4m3(Number.NEGATIVE_INFINITY)).toBe(0xfe);
    expect(numberToE4m3(Number.NaN)).toBe(0x7f);
  });
});
