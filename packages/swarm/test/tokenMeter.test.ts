import { encodeFrame, stepTokens } from "@shoal/cluster";
import { expect, test } from "vitest";
import { TokenMeter } from "../src/member/tokenMeter.ts";
import { SimulatedClock } from "./simulatedClock.ts";

test("tokens count by the second while they are recent, and no more", async () => {
  const clock = new SimulatedClock();
  const meter = new TokenMeter(clock);
  expect(meter.perSecond).toBe(0);
  for (let i = 0; i < 100; i++) {
    meter.count(1);
    await clock.advance(100);
  }
  expect(meter.perSecond).toBeGreaterThan(9);
  expect(meter.perSecond).toBeLessThan(11);
  await clock.advance(6000);
  expect(meter.perSecond).toBe(0);
});

test("a frame's tokens are those of a step, prompts, samples and drafts; other frames have none, nor has nonsense", () => {
  const entries = [
    { sequence: 0, tokens: [1, 2, 3] },
    { sequence: 1, tokens: "sampled", verify: 2 },
  ];
  const frame = (method: string, body: unknown) => encodeFrame({ kind: "call", call: 1, target: 0, method, body });
  const body = { batch: { entries, output: "sample" }, activations: "f32" };
  expect(stepTokens(frame("forward", body))).toBe(6);
  expect(stepTokens(frame("forwardTold", body))).toBe(6);
  expect(stepTokens(frame("open", null))).toBe(0);
  expect(stepTokens(frame("forward", { batch: { entries: "all" } }))).toBe(0);
  expect(stepTokens(encodeFrame({ kind: "ping", call: 0, target: 0, body: null }))).toBe(0);
  expect(stepTokens(new Uint8Array(10))).toBe(0);
});
