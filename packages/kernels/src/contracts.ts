/** Every kernel's contract suite, by operation. */
import { kvWriteContract } from "./kvWrite/contract.ts";
import { qAbsorbContract } from "./qAbsorb/contract.ts";
import { mlaAttentionContract } from "./mlaAttention/contract.ts";
import { mlaAttendContract } from "./mlaAttend/contract.ts";
import { attentionSublayerContract } from "./attentionSublayer/contract.ts";
import { mlaOutputContract } from "./mlaOutput/contract.ts";
import { expertsFewContract } from "./expertsFew/contract.ts";
import { expertsManyContract } from "./expertsMany/contract.ts";
import { expertsHiddenContract } from "./expertsMany/hiddenContract.ts";
import { embeddingContract } from "./embedding/contract.ts";
import { rmsNormContract } from "./rmsNorm/contract.ts";
import { normOperandsContract } from "./rmsNorm/operandsContract.ts";
import { gatherRowsContract } from "./gatherRows/contract.ts";
import { actQuantContract } from "./actQuant/contract.ts";
import { mtpInputContract } from "./mtpInput/contract.ts";
import { fp8NanScanContract } from "./fp8NanScan/contract.ts";
import { dequantizeContract } from "./dequantize/contract.ts";
import { bandwidthContract } from "./bandwidth/contract.ts";
import { matmulContract } from "./matmul/contract.ts";
import { matrixRateContract } from "./matrixRate/contract.ts";
import { matmulMatrixContract } from "./matmul/matrixContract.ts";
import { matvecContract } from "./matvec/contract.ts";
import { exactContract } from "./exact/contract.ts";
import { gateManyContract } from "./gateMany/contract.ts";
import { gateManyPlacedContract } from "./gateMany/placedContract.ts";
import { gateFewContract } from "./gateFew/contract.ts";
import { moeSublayerContract } from "./moeSublayer/contract.ts";
import { routerContract } from "./router/contract.ts";
import { sampleContract } from "./sample/contract.ts";
import { adjustContract } from "./adjust/contract.ts";
import { settleContract } from "./settle/contract.ts";
import { logprobsContract } from "./logprobs/contract.ts";
import type { ContractCase } from "./testing/mod.ts";

export const contracts: Readonly<Record<string, readonly ContractCase[]>> = {
  matvec: matvecContract,
  matmul: [...matmulContract, ...matmulMatrixContract],
  dequantize: dequantizeContract,
  fp8NanScan: fp8NanScanContract,
  mtpInput: mtpInputContract,
  actQuant: actQuantContract,
  gatherRows: gatherRowsContract,
  rmsNorm: [...rmsNormContract, ...normOperandsContract],
  embedding: embeddingContract,
  kvWrite: kvWriteContract,
  qAbsorb: qAbsorbContract,
  mlaAttention: mlaAttentionContract,
  mlaOutput: mlaOutputContract,
  mlaAttend: mlaAttendContract,
  attentionSublayer: attentionSublayerContract,
  exact: exactContract,
  gateMany: [...gateManyContract, ...gateManyPlacedContract],
  router: routerContract,
  gateFew: gateFewContract,
  expertsFew: expertsFewContract,
  moeSublayer: moeSublayerContract,
  expertsMany: [...expertsManyContract, ...expertsHiddenContract],
  sample: sampleContract,
  adjust: adjustContract,
  logprobs: logprobsContract,
  settle: settleContract,
  bandwidth: bandwidthContract,
  matrixRate: matrixRateContract,
};
