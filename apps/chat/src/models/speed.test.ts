import { expect, test } from "vitest";
import { Speed } from "./speed.ts";

test("Speed is a mean over the last seconds, and falls to nothing where nothing comes", () => {
  const speed = new Speed();
  expect(speed.add(0, 0)).toBe(0);
  expect(speed.add(6_000_000, 1000)).toBe(6_000_000);
  expect(speed.add(6_000_000, 3000)).toBe(2_000_000);
  expect(speed.add(6_000_000, 4000)).toBe(0);
  expect(speed.add(9_000_000, 5000)).toBe(1_500_000);
});
