export { memoryChannel } from "./channels/memory.ts";
export { type PortLike, portChannel, workerChannel } from "./channels/port.ts";
export { type StreamChannelOptions, streamChannel } from "./channels/stream.ts";
export { ClusterError, type ClusterErrorCode, PeerLostError } from "./errors.ts";
export { RemoteExpertShard, type RemoteShardOptions, ShardServer, remoteShard, serveShard } from "./experts/remoteShard.ts";
export { type ShardMember, ShardedExperts, type ShardedExpertsOptions } from "./experts/shardedExperts.ts";
export { type Choice, Choices } from "./pipeline/choices.ts";
export { checkBatch } from "./pipeline/joined.ts";
export { type PipelineOptions, PipelineStage } from "./pipeline/pipelineStage.ts";
export {
  RemoteStage,
  type RemoteStageOptions,
  type RemoteTarget,
  type TellingStage,
  type ToldStep,
  remoteStage,
} from "./stage/remoteStage.ts";
export { batchBody, entryRows, outputOf } from "./stage/messages.ts";
export * as stageSchemas from "./stage/schemas.ts";
export { StageServer, type StageServerOptions, serveStage } from "./stage/stageServer.ts";
export { stepTokens } from "./stage/stepTokens.ts";
export { Caller, type CallerOptions, type Dispatch, type Traffic, answerCalls, parsed } from "./wire/calls.ts";
export { ChannelInbox, type Frame, type FrameChannel, MAX_FRAME_BYTES, bothWays } from "./wire/channel.ts";
export { MAX_HEADER_BYTES, type Message, PROTOCOL_VERSION, decodeFrame, encodeFrame, frameAddress } from "./wire/frame.ts";
export { errorToRecord } from "./wire/errorRecord.ts";
export { type ActivationFormat, Tensor, expectTensor } from "./wire/tensor.ts";
export { DEFAULT_WORKLOAD, type PlanCost, type Workload } from "./placement/cost.ts";
export { type Device, type Fleet, type Link, parseFleet } from "./placement/fleet.ts";
export { type LoadablePlan, devicesOfPlan, parsePlan } from "./placement/planFile.ts";
export { type ModelCosts, modelCosts } from "./placement/modelCosts.ts";
export { type NoPlan, type Plan, type PlannedStage, place } from "./placement/place.ts";
export { shares } from "./placement/shares.ts";
