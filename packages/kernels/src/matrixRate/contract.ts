/** Sums are exact. */
import { type ContractCase, assertEqual, withBuffers } from "../testing/mod.ts";
import { matrixRate, matrixRateBytes, matrixRateReference } from "./kernel.ts";

const WORKGROUPS = 3;
const ROUNDS = 5;

export const matrixRateContract: readonly ContractCase[] = [
  {
    name: "matrixRate() sums what it multiplies, emulated and where there is hardware on that",
    run: (gpu) =>
      withBuffers(gpu, async (keep) => {
        for (const how of gpu.dialect.subgroupMatrix ? (["emulated", "hardware"] as const) : (["emulated"] as const)) {
          const results = keep(gpu.buffer({ label: "results", size: matrixRateBytes(WORKGROUPS), kind: "scratch" }));
          gpu.submit([await matrixRate(gpu, { workgroups: WORKGROUPS, rounds: ROUNDS, results, how })]);
          const expected = Array.from({ length: WORKGROUPS }, () => matrixRateReference(ROUNDS)).flat();
          assertEqual(new Float32Array(await gpu.read(results)), expected, `results, ${how}`);
        }
      }),
  },
];
