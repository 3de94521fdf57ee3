/** Contract suites for stages and shards behind further kinds of channels. */
export { CONTRACT_MODEL, CONTRACT_OPTIONS, type StageContract, type StageUnderTest, same, stageContract } from "./stageContract.ts";
