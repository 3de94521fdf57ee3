/** Messages and bytes of decoding and of prefill over several devices, counted at the channels and compared with the formula. */
import {
  type Batch,
  type ExpertCall,
  type ExpertShard,
  NO_EXPERT,
  type SequenceSlot,
  type Stage,
  type StageDescription,
} from "@shoal/model";
import { describe, expect, it } from "vitest";
import { memoryChannel } from "../channels/memory.ts";
import { type RemoteExpertShard, remoteShard, serveShard } from "../experts/remoteShard.ts";
import { ShardedExperts } from "../experts/shardedExperts.ts";
import { PipelineStage } from "../pipeline/pipelineStage.ts";
import { type RemoteStage, remoteStage } from "../stage/remoteStage.ts";
import { serveStage } from "../stage/stageServer.ts";
import type { ActivationFormat } from "./tensor.ts";

const HIDDEN = 256;
const SLOTS = 4;
const EXPERTS = 32;
const MOE_LAYERS = 5;
const FORMATS = ["f32", "f16", "fp8"] as const;
/** Prelude, header in JSON, and what tensors are padded with: all of a message that is not numbers. */
const MOST_FRAMING_BYTES = 320;

/** Of one activation on its way; FP8 has an f32 scale for each 128. */
const ACTIVATION_BYTES: Readonly<Record<ActivationFormat, number>> = { f32: 4, f16: 2, fp8: 1 + 4 / 128 };

/** One MoE layer, one shard: rows that name an expert of its go there with what they name, sums come back. */
function shardPayload(rows: number, format: ActivationFormat): { readonly sent: number; readonly received: number } {
  const activations = rows * HIDDEN * ACTIVATION_BYTES[format];
  return { sent: activations + rows * SLOTS * 8, received: activations };
}

function shardOf(experts: readonly number[]): ExpertShard {
  return {
    describe: async () => ({
      experts: Array.from({ length: MOE_LAYERS }, (_, layer) => ({ layer, experts })),
      hiddenSize: HIDDEN,
      maxTokens: 64,
      memory: {},
    }),
    run: async ({ x }) => x.slice(),
    destroy: async () => undefined,
  };
}

/** Row r names experts r, r + 5, r + 10, r + 15. */
function callOf(layer: number, tokens: number): ExpertCall {
  const experts = Uint32Array.from({ length: tokens * SLOTS }, (_, pair) => (Math.floor(pair / SLOTS) + (pair % SLOTS) * 5) % EXPERTS);
  const x = Float32Array.from({ length: tokens * HIDDEN }, (_, index) => Math.sin(index));
  return { layer, tokens, slots: SLOTS, x, experts, weights: new Float32Array(tokens * SLOTS).fill(0.25) };
}

/** A stage of a pipeline that computes nothing. */
function stageOf(index: number, count: number): Stage {
  const description: StageDescription = {
    layers: { begin: index, end: index + 1 },
    hasEmbedding: index === 0,
    hasHead: index === count - 1,
    hasMtp: false,
    maxDrafts: 0,
    chainsDrafts: false,
    vocabSize: 100,
    contextTokens: 256,
    maxSequences: 4,
    maxTokens: 64,
    maxOutputs: 64,
    memory: {},
    freeKvBlocks: 32,
    kvBlockSize: 32,
  };
  let step = 0;
  const refuse = (): never => {
    throw new RangeError("Not part of this test");
  };
  return {
    describe: async () => description,
    open: async () => 0 as SequenceSlot,
    forward: async ({ entries, output }: Batch) => {
      const rows = entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
      return { step: step++, ...(output === "hidden" && { hidden: new Float32Array(rows * HIDDEN) }) };
    },
    sampled: async (_first, steps) => Array.from({ length: steps }, () => [1]),
    close: async () => undefined,
    truncate: async () => undefined,
    setSampling: async () => undefined,
    draft: refuse,
    drafted: refuse,
    logprobs: refuse,
    retain: refuse,
    release: refuse,
    exportKv: refuse,
    importKv: refuse,
    destroy: async () => undefined,
  };
}

function delta(end: { readonly traffic: Readonly<RemoteStage["traffic"]> }): () => RemoteStage["traffic"] {
  const before = { ...end.traffic };
  return () => ({
    messagesSent: end.traffic.messagesSent - before.messagesSent,
    bytesSent: end.traffic.bytesSent - before.bytesSent,
    messagesReceived: end.traffic.messagesReceived - before.messagesReceived,
    bytesReceived: end.traffic.bytesReceived - before.bytesReceived,
  });
}

function expectBytes(counted: number, payload: number, messages: number): void {
  expect(counted).toBeGreaterThan(payload);
  expect(counted).toBeLessThanOrEqual(payload + messages * MOST_FRAMING_BYTES);
}

describe("traffic of expert shards", () => {
  it.each(FORMATS.flatMap((format) => [1, 37].map((tokens) => [format, tokens] as const)))(
    "is one message each way for a MoE layer and a shard that is named, with its rows only: %s, %i tokens",
    async (format, tokens) => {
      const owned = [0, 1, 2].map((member) =>
        Array.from({ length: EXPERTS }, (_, expert) => expert).filter((expert) => expert % 3 === member),
      );
      const ends: RemoteExpertShard[] = owned.map((experts, member) => {
        const [here, there] = memoryChannel();
        serveShard(there, shardOf(experts));
        return remoteShard(here, { peer: `shard ${member}`, activations: format });
      });
      const experts = await ShardedExperts.open(ends.map((shard, member) => ({ name: String(member), shard })));
      const counts = ends.map(delta);
      for (let layer = 0; layer < MOE_LAYERS; layer++) await experts.run(callOf(layer, tokens));
      const named = [...callOf(0, tokens).experts].filter((expert) => expert !== NO_EXPERT);
      for (const [member, count] of counts.entries()) {
        const own = new Set(owned[member]);
        const rows = Array.from({ length: tokens }, (_, row) => named.slice(row * SLOTS, (row + 1) * SLOTS)).filter((row) =>
          row.some((expert) => own.has(expert)),
        ).length;
        const { sent, received } = shardPayload(rows, format);
        const messages = rows > 0 ? MOE_LAYERS : 0;
        const counted = count();
        expect([counted.messagesSent, counted.messagesReceived]).toEqual([messages, messages]);
        if (messages === 0) continue;
        expectBytes(counted.bytesSent, MOE_LAYERS * sent, messages);
        expectBytes(counted.bytesReceived, MOE_LAYERS * received, messages);
      }
    },
  );
});

describe("traffic of a pipeline", () => {
  it.each(FORMATS)(
    "is one message each way for a step and a stage, with its hidden states, or of the last with the token: %s",
    async (format) => {
      const count = 3;
      const ends = Array.from({ length: count }, (_, index) => {
        const [here, there] = memoryChannel();
        void serveStage(there, stageOf(index, count));
        return remoteStage(here, { peer: `stage ${index}`, activations: format });
      });
      const pipeline = await PipelineStage.open(ends);
      const sequence = await pipeline.open();
      const prefill = await pipeline.forward({ entries: [{ sequence, tokens: Array.from({ length: 37 }, () => 1) }], output: "sample" });
      await pipeline.sampled(prefill.step, 1);
      const steps = 10;
      const counts = ends.map(delta);
      for (let done = 0; done < steps; done++) {
        const { step } = await pipeline.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
        await pipeline.sampled(step, 1);
      }
      const hidden = HIDDEN * ACTIVATION_BYTES[format];
      for (const [index, counted] of counts.map((each) => each()).entries()) {
        const [first, last] = [index === 0, index === count - 1];
        const messages = steps;
        expect([counted.messagesSent, counted.messagesReceived]).toEqual([messages, messages]);
        expectBytes(counted.bytesSent, first ? 0 : steps * hidden, messages);
        expectBytes(counted.bytesReceived, last ? 0 : steps * hidden, messages);
      }
    },
  );
});
