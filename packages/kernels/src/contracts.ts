/** Every kernel's contract suite, by operation. */
import { kvWriteContract } from "./kvWrite/contract.ts";
import { qAbsorbContract } from "./qAbsorb/contract.ts";
import { expertsFewContract } from "./expertsFew/contract.ts";
import { embeddingContract } from "./embedding/contract.ts";
import { rmsNormContract } from "./rmsNorm/contract.ts";
import { gatherRowsContract } from "./gatherRows/contract.ts";
import { matmulContract } from "./matmul/contract.ts";
import { matvecContract } from "./matvec/contract.ts";
import { routerContract } from "./router/contract.ts";
import { sampleContract } from "./sample/contract.ts";
import type { ContractCase } from "./testing/mod.ts";

export const contracts: Readonly<Record<string, readonly ContractCase[]>> = {
  matvec: matvecContract,
  matmul: matmulContract,
  gatherRows: gatherRowsContract,
  rmsNorm: rmsNormContract,
  embedding: embeddingContract,
  kvWrite: kvWriteContract,
  qAbsorb: qAbsorbContract,
  router: routerContract,
  expertsFew: expertsFewContract,
  sample: sampleContract,
};
