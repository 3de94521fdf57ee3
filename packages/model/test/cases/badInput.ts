/** What a stage must refuse, by a typed error, and go on from as if nothing had been asked. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { type Batch, type LocalStage, ModelError, type ModelErrorCode, type SequenceSlot, loadLocalStage } from "@shoal/model";
import { check, maxError } from "../support/compare.ts";
import { logitsOf, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const NAME = "ragged-v3-fp8";
const CONTEXT = 256;
const MAX_TOKENS = 160;

interface Refusal {
  readonly what: string;
  readonly code: ModelErrorCode;
  /** Both sequences are open; `a` holds 60 tokens, `b` 180 (of the 256 that there is room for). */
  readonly ask: (on: LocalStage, a: SequenceSlot, b: SequenceSlot) => Promise<unknown>;
}

const REFUSALS: readonly Refusal[] = [
  { what: "a token id that the vocabulary lacks", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: [5, 317] }]) },
  { what: "a negative token id", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: [-1] }]) },
  { what: "a token id with a fraction", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: [1.5] }]) },
  { what: "a token id that is NaN", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: [Number.NaN] }]) },
  { what: "an entry without tokens", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: [] }]) },
  { what: "a batch without entries", code: "bad-batch", ask: (on) => forward(on, []) },
  { what: "more tokens than a step takes", code: "bad-batch", ask: (on, a) => forward(on, [{ sequence: a, tokens: ids(MAX_TOKENS + 1) }]) },
  {
    what: "a sequence twice in a batch",
    code: "bad-batch",
    ask: (on, a) => {
      const entry = { sequence: a, tokens: [5] };
      return forward(on, [entry, entry]);
    },
  },
  {
    what: "more tokens than the context holds",
    code: "context-exceeded",
    ask: (on, _, b) => forward(on, [{ sequence: b, tokens: ids(CONTEXT - 179) }]),
  },
  {
    what: "more tokens than there are KV blocks for, in the batch's second entry",
    code: "out-of-kv-blocks",
    ask: (on, a, b) =>
      forward(on, [
        { sequence: a, tokens: ids(4) },
        { sequence: b, tokens: ids(40) },
      ]),
  },
  {
    what: "a sequence that is not open",
    code: "unknown-sequence",
    ask: (on) => forward(on, [{ sequence: 7 as SequenceSlot, tokens: [5] }]),
  },
  { what: "a third sequence where there are two", code: "too-many-sequences", ask: (on) => on.open() },
  { what: "cutting a sequence to more than it has", code: "bad-batch", ask: (on, a) => on.truncate(a, 61) },
  { what: "cutting a sequence to less than nothing", code: "bad-batch", ask: (on, a) => on.truncate(a, -1) },
  { what: "tokens of a step that sampled none", code: "bad-batch", ask: (on) => on.sampled(1_000_000, 1) },
  {
    what: "a draft for a sequence that the step before had not",
    code: "bad-batch",
    ask: (on, _, b) => on.draft({ entries: [{ sequence: b, tokens: [5] }], output: "sample" }),
  },
  {
    what: "a draft of more rows than the step before had",
    code: "bad-batch",
    ask: (on, a) => on.draft({ entries: [{ sequence: a, tokens: ids(61) }], output: "sample" }),
  },
  {
    what: "a draft from behind the rows that the step before had",
    code: "bad-batch",
    ask: (on, a) => on.draft({ entries: [{ sequence: a, tokens: [5], draftFrom: 60 }], output: "sample" }),
  },
  {
    what: "more drafts in a row than there may be",
    code: "bad-batch",
    ask: (on, a) => on.draft({ entries: [{ sequence: a, tokens: ids(60) }], output: "sample", drafts: 4 }),
  },
  {
    what: "half a draft to verify",
    code: "bad-batch",
    ask: (on, a) => on.forward({ entries: [{ sequence: a, tokens: [5], verify: 0.5 }], output: "sample" }),
  },
];

/** Of a stage that allows fewer rows of logits than tokens, has no head, or takes hidden states. */
const PARTIAL_REFUSALS: readonly {
  readonly what: string;
  readonly layers: { readonly begin: number; readonly end: number };
  readonly batch: (sequence: SequenceSlot) => Batch;
}[] = [
  {
    what: "more rows of logits than a step gives",
    layers: { begin: 0, end: 2 },
    batch: (sequence) => ({ entries: [{ sequence, tokens: ids(9) }], output: "allLogits" }),
  },
  {
    what: "logits of a stage without a head",
    layers: { begin: 0, end: 1 },
    batch: (sequence) => ({ entries: [{ sequence, tokens: [5] }], output: "lastLogits" }),
  },
  {
    what: "tokens instead of hidden states",
    layers: { begin: 1, end: 2 },
    batch: (sequence) => ({ entries: [{ sequence, tokens: [5] }], output: "lastLogits" }),
  },
  {
    what: "too few hidden states",
    layers: { begin: 1, end: 2 },
    batch: (sequence) => ({ entries: [{ sequence, tokens: [5, 6], hidden: new Float32Array(200) }], output: "lastLogits" }),
  },
];

export function badInput(models: Models): readonly GpuTest[] {
  const prompt = async (): Promise<readonly number[]> => (await readGolden(`${NAME}-golden.safetensors`)).ints("case2.input_ids");
  const refusals = REFUSALS.map(({ what, code, ask }) => ({
    name: `a stage refuses ${what}, and nothing has changed`,
    run: async () => {
      const on = await models.micro(NAME, "w8a32");
      const all = await prompt();
      const fresh = await withSequence(on, (sequence) => logitsOf(on, sequence, all.slice(0, 70)));
      await withSequence(on, (a) =>
        withSequence(on, async (b) => {
          // 60 tokens: two blocks; 180: six, of eight.
          await prefill(on, b, ids(150));
          await prefill(on, b, ids(30));
          await prefill(on, a, all.slice(0, 60));
          const free = on.kv.freeBlocks;
          await refused(code, () => ask(on, a, b));
          check(on.kv.freeBlocks === free, `${on.kv.freeBlocks} blocks are free, before it were ${free}`);
          check(on.kv.length(a) === 60 && on.kv.length(b) === 180, `the sequences have ${on.kv.length(a)} and ${on.kv.length(b)} tokens`);
          // Ten more tokens need a third block only with 64 tokens or more: they fit.
          await on.truncate(b, 0);
          const after = await logitsOf(on, a, all.slice(60, 70));
          const error = maxError(after, fresh.slice(-after.length));
          check(error <= 1e-4, `the logits after it differ by ${error}`);
        }),
      );
    },
  }));
  const partial = PARTIAL_REFUSALS.map(({ what, layers, batch }) => ({
    name: `a stage of layers ${layers.begin}-${layers.end} refuses ${what}, and nothing has changed`,
    run: async () => {
      const on = await models.stage(NAME, { contextTokens: CONTEXT, maxTokens: 32, maxOutputs: 8, layers });
      await withSequence(on, async (sequence) => {
        const free = on.kv.freeBlocks;
        await refused("bad-batch", () => on.forward(batch(sequence)));
        check(on.kv.length(sequence) === 0, `the sequence has ${on.kv.length(sequence)} tokens, expected none`);
        check(on.kv.freeBlocks === free, `${on.kv.freeBlocks} blocks are free, before it were ${free}`);
      });
    },
  }));
  const damaged = [
    { name: "model.layers.0.self_attn.kv_b_proj.weight", code: 0x7f },
    { name: "model.layers.1.mlp.experts.7.down_proj.weight", code: 0xff },
    { name: "model.layers.1.mlp.shared_experts.gate_proj.weight", code: 0x7f },
    { name: "model.layers.2.self_attn.q_b_proj.weight", code: 0xff },
  ].map(({ name, code }) => ({
    name: `a NaN code 0x${code.toString(16)} in ${name} is found while loading`,
    run: async () => {
      const checkpoint = damage(await models.checkpoint(NAME), name, (bytes) => bytes.fill(code, bytes.length - 3, bytes.length - 2));
      const gpu = await models.gpu();
      await refused("bad-weights", () => loadLocalStage(gpu, checkpoint, { contextTokens: 64, mtp: true }));
      gpu.check();
    },
  }));
  const scales: GpuTest = {
    name: "a scale that is not finite is found while loading, and named",
    run: async () => {
      const name = "model.layers.1.self_attn.o_proj.weight_scale_inv";
      const checkpoint = damage(await models.checkpoint(NAME), name, (bytes) =>
        new DataView(bytes.buffer, bytes.byteOffset).setFloat32(0, Number.NaN, true),
      );
      const gpu = await models.gpu();
      const error = await refused("bad-weights", () => loadLocalStage(gpu, checkpoint, { contextTokens: 64 }));
      check(error.message.includes(name), `'${error.message}' does not name the tensor`);
    },
  };
  return [...refusals, ...partial, ...damaged, scales];
}

function forward(on: LocalStage, entries: Batch["entries"]): Promise<unknown> {
  return on.forward({ entries, output: "sample" });
}

function ids(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => 2 + (index % 300));
}

async function refused(code: ModelErrorCode, work: () => Promise<unknown>): Promise<ModelError> {
  try {
    await work();
  } catch (error) {
    check(error instanceof ModelError, `${String(error)}, expected a ModelError`);
    check(error.code === code, `'${error.message}' has the code ${error.code}, expected ${code}`);
    return error;
  }
  throw new Error(`Nothing was refused, expected ${code}`);
}

/** The same checkpoint with the bytes of one tensor changed. */
function damage(checkpoint: CheckpointSource, name: string, change: (bytes: Uint8Array<ArrayBuffer>) => void): CheckpointSource {
  const { tensors } = checkpoint;
  const damagedBytes = async (signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = await tensors.readTensor(name, signal);
    change(bytes);
    return bytes;
  };
  return {
    ...checkpoint,
    tensors: {
      ...tensors,
      tensors: tensors.tensors,
      readTensor: (wanted, signal) => (wanted === name ? damagedBytes(signal) : tensors.readTensor(wanted, signal)),
      async *readSlices(wanted, options, signal) {
        if (wanted === name) yield await damagedBytes(signal);
        else yield* tensors.readSlices(wanted, options, signal);
      },
      readPart: async (wanted, part, signal) =>
        wanted === name
          ? (await damagedBytes(signal)).subarray(part.offset, part.offset + part.length)
          : tensors.readPart(wanted, part, signal),
    },
  };
}
