import { expect, test } from "vitest";
import { fitOf } from "./fit.ts";

const GB = 1e9;
const MODEL = { repo: "a/b", about: "", downloadBytes: 31 * GB, gpuBytes: 32 * GB };
const ENOUGH = { storageBytes: 100 * GB, deviceMemory: 8, isSoftware: false };

test.each([
  ["perhaps", {}],
  ["perhaps", { storageBytes: null, deviceMemory: null, isSoftware: null }],
  ["too-little-room", { storageBytes: 30 * GB }],
  ["too-little-memory", { deviceMemory: 4 }],
  ["too-little-memory", { deviceMemory: 4, storageBytes: 30 * GB }],
  ["too-slow", { isSoftware: true, deviceMemory: 4 }],
] as const)("fitOf() says '%s' of a device with %o", (fit, facts) => {
  expect(fitOf(MODEL, { ...ENOUGH, ...facts })).toBe(fit);
});

test("fitOf() rules nothing out that a small machine could hold", () => {
  expect(fitOf({ ...MODEL, gpuBytes: 4 * GB, downloadBytes: GB }, { ...ENOUGH, deviceMemory: 2 })).toBe("perhaps");
});
