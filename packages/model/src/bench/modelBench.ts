/**
 * The bench of a model on one device: verifies, then times prefill and decode as a user sees them, then looks at single steps. Every number is of this run, on
 * this device; times are milliseconds unless a name says otherwise.
 */
import type { LocalStage } from "../localStage.ts";
import type { SequenceSlot } from "../kvCache.ts";
import type { NumericMode } from "../recorder.ts";
import { isShortContext } from "@shoal/kernels";
import { type Bandwidth, measureBandwidth } from "./bandwidth.ts";
import { BenchError } from "./errors.ts";
import { type KernelTimes, kernelTimes } from "./kernelTimes.ts";
import { median } from "./median.ts";
import { decode, prefill, repeatedPrompt } from "./run.ts";
import { type StepCost, kvCacheBytes, stepCost } from "./stepCost.ts";
import { type Verification, verifiedTokens, verify } from "./verify.ts";

export interface ModelBenchOptions {
  readonly mode: NumericMode;
  /** A prompt whose continuation is verified; repeated to `promptTokens` for what is timed. */
  readonly promptIds: readonly number[];
  /** What greedy decoding of it must give first. */
  readonly expectedIds?: readonly number[] | undefined;
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Timed runs of each kind, after one that warms up. */
  readonly repeat: number;
  readonly onPhase?: ((what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Throughput {
  /** Median of the samples. */
  readonly tokensPerSecond: number;
  readonly samples: readonly number[];
  /** Tokens of one sample. */
  readonly tokens: number;
  /** One step of it: the first chunk of the prompt, or one token after the prompt. */
  readonly step: StepCost;
  /** Null where the device has no timestamp queries. */
  readonly gpuTimes: KernelTimes | null;
}

export interface ModelBench {
  readonly verification: Verification;
  readonly prefill: Throughput;
  readonly decode: Throughput & {
    /** Time of a call that submits a step and waits for nothing. */
    readonly submitMs: number;
    /** Bytes of the step and of the KV cache, times tokens per second. */
    readonly bytesPerSecond: number;
    /** Of what a plain copy moves in a second. */
    readonly shareOfCopy: number;
  };
  readonly bandwidth: Bandwidth;
  /** Bytes on the device, by kind. */
  readonly memory: Readonly<Record<string, number>>;
}

/** Steps submitted to time the submission; fewer than the device's queue would hold up. */
const SUBMITTED_STEPS = 16;

/** Positions that a bench needs in the cache. */
export function benchContextTokens({ promptIds, expectedIds, promptTokens, newTokens }: ModelBenchOptions): number {
  return Math.max(verifiedTokens(promptIds.length, expectedIds?.length ?? 0), promptTokens + Math.max(newTokens, SUBMITTED_STEPS));
}

/** @throws BenchError if the model is wrong, or the options do not fit the stage. */
export async function benchModel(stage: LocalStage, options: ModelBenchOptions): Promise<ModelBench> {
  const { gpu, config } = stage;
  const { mode, promptIds, expectedIds, promptTokens, newTokens, repeat, onPhase, signal } = options;
  const { contextTokens, maxTokens } = await stage.describe();
  const needed = benchContextTokens(options);
  if (needed > contextTokens)
    throw new BenchError(
      "bad-options",
      `Cannot measure ${promptTokens} + ${newTokens} tokens: the context has ${contextTokens}, expected ${needed}`,
    );
  if (promptIds.length === 0 || repeat < 1)
    throw new BenchError("bad-options", "Cannot measure nothing: expected a prompt, and one repetition or more");
  const phase = (what: string): void => {
    signal?.throwIfAborted();
    onPhase?.(what);
  };

  const sequence = await stage.open();
  try {
    phase("verifying");
    const verification = await verify(stage, sequence, { config, mode, chunkTokens: maxTokens, promptIds, expectedIds });
    phase("copying a buffer");
    const bandwidth = await measureBandwidth(gpu, signal);
    const prompt = repeatedPrompt(promptIds, promptTokens);
    const run: Run = { stage, sequence, prompt, maxTokens, newTokens, repeat, phase, signal };
    const { prefillSamples, decodeSamples } = await throughput(run);
    phase("timing kernels");
    const chunk = await prefillStep(run);
    const token = await decodeStep(run);
    const tokensPerSecond = median(decodeSamples);
    const bytesPerSecond = (token.step.bytes + token.step.kvCacheBytes) * tokensPerSecond;
    return {
      verification,
      prefill: { tokensPerSecond: median(prefillSamples), samples: prefillSamples, tokens: promptTokens, ...chunk },
      decode: {
        tokensPerSecond,
        samples: decodeSamples,
        tokens: newTokens,
        ...token,
        bytesPerSecond,
        shareOfCopy: bytesPerSecond / bandwidth.copyBytesPerSecond,
      },
      bandwidth,
      memory: gpu.memory.byKind(),
    };
  } finally {
    await stage.close(sequence);
  }
}

interface Run {
  readonly stage: LocalStage;
  readonly sequence: SequenceSlot;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly newTokens: number;
  readonly repeat: number;
  readonly phase: (what: string) => void;
  readonly signal: AbortSignal | undefined;
}

/** Tokens per second of each repetition; the one before them compiles and is not counted. */
async function throughput({ stage, sequence, prompt, maxTokens, newTokens, repeat, phase, signal }: Run): Promise<{
  prefillSamples: readonly number[];
  decodeSamples: readonly number[];
}> {
  const prefillSamples: number[] = [];
  const decodeSamples: number[] = [];
  for (let i = 0; i <= repeat; i++) {
    phase(i === 0 ? "warming up" : `run ${i} of ${repeat}`);
    const begin = performance.now();
    const step = await prefill(stage, sequence, prompt, maxTokens, "sample");
    await stage.sampled(step, 1);
    const middle = performance.now();
    await decode(stage, sequence, newTokens, signal);
    const end = performance.now();
    if (i === 0) continue;
    prefillSamples.push((prompt.length * 1000) / (middle - begin));
    decodeSamples.push((newTokens * 1000) / (end - middle));
  }
  return { prefillSamples, decodeSamples };
}

async function prefillStep({ stage, sequence, prompt, maxTokens, repeat }: Run): Promise<Pick<Throughput, "step" | "gpuTimes">> {
  const chunk = prompt.slice(0, maxTokens);
  const tokens = chunk.length;
  // Leaves behind the inputs of such a step, so that running its commands again computes the same.
  const last = await prefill(stage, sequence, chunk, maxTokens, "sample");
  await stage.sampled(last, 1);
  const commands = await stage.program({
    kind: "forward",
    tokens,
    outputs: 1,
    identity: tokens === 1,
    choose: "greedy",
    capture: "nothing",
    short: false,
  });
  return {
    step: stepCost(stage.gpu, commands, tokens, kvCacheBytes(stage.kv, tokens)),
    gpuTimes: (await kernelTimes(stage.gpu, commands, repeat)) ?? null,
  };
}

async function decodeStep({
  stage,
  sequence,
  prompt,
  maxTokens,
  repeat,
  signal,
}: Run): Promise<Pick<ModelBench["decode"], "step" | "gpuTimes" | "submitMs">> {
  const last = await prefill(stage, sequence, prompt, maxTokens, "sample");
  await stage.sampled(last, 1);
  const submits: number[] = [];
  for (let i = 0; i < SUBMITTED_STEPS; i++) {
    const begin = performance.now();
    await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
    submits.push(performance.now() - begin);
  }
  await stage.gpu.idle();
  signal?.throwIfAborted();
  await stage.truncate(sequence, prompt.length);
  await decode(stage, sequence, 1);
  const short = isShortContext({ sequences: [sequence], positions: [prompt.length + 1] });
  const shape = { kind: "forward", tokens: 1, outputs: 1, identity: true, choose: "greedy", capture: "nothing", short } as const;
  const commands = await stage.program(shape);
  return {
    submitMs: median(submits),
    step: stepCost(stage.gpu, commands, 1, kvCacheBytes(stage.kv, prompt.length + 1)),
    gpuTimes: (await kernelTimes(stage.gpu, commands, repeat)) ?? null,
  };
}
