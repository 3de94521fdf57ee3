/** What the calls of a stage carry. Sizes are bounded here; whether a batch makes sense the stage itself decides. */
import { z } from "zod";
import { Tensor } from "../wire/tensor.ts";

/** Far above what a step may hold, and small enough to look at. */
const MAX_ENTRIES = 1024;
const MAX_STEP_TOKENS = 65_536;
const MAX_BLOCKS = 1_000_000;
/** Far above what any MTP module is good for. */
const MAX_DRAFTS = 16;
/** A stage keeps the tokens of so many steps. */
const MAX_STEPS_READ = 64;

const tensor = z.instanceof(Tensor);
const index = z.int().min(0).max(0xffffffff);
const steps = z.int().min(0).max(MAX_STEPS_READ);

const slot = index;
const blocks = z.array(index).max(MAX_BLOCKS);
const tokens = z.union([z.literal("sampled"), z.array(index).max(MAX_STEP_TOKENS)]);
const formats = z.enum(["f32", "f16", "fp8"]);

export const batchEntry = z.strictObject({
  sequence: slot,
  tokens,
  hidden: tensor.optional(),
  quiet: z.boolean().optional(),
  verify: z.int().min(0).max(MAX_DRAFTS).optional(),
  /** [tokens that are chosen, words] */
  masks: tensor.optional(),
  followedBy: z.array(index).max(MAX_STEP_TOKENS).optional(),
  draftAfter: z.int().optional(),
  draftFrom: z.int().min(0).max(MAX_STEP_TOKENS).optional(),
});

export const batch = z.strictObject({
  entries: z.array(batchEntry).max(MAX_ENTRIES),
  output: z.enum(["none", "sample", "lastLogits", "allLogits", "hidden"]),
  capture: z.strictObject({ hidden: z.boolean().optional(), routing: z.boolean().optional() }).optional(),
  drafts: z.int().min(1).max(MAX_DRAFTS).optional(),
  logprobs: z.boolean().optional(),
  chain: z.boolean().optional(),
});

export const samplingParameters = z.strictObject({
  temperature: z.number(),
  topP: z.number(),
  topK: z.number(),
  minP: z.number(),
  seed: z.bigint(),
  repetitionPenalty: z.number().optional(),
  frequencyPenalty: z.number().optional(),
  presencePenalty: z.number().optional(),
  /** Pairs of a token and what is added to its logit. */
  logitBias: z
    .array(z.tuple([index, z.number()]))
    .max(MAX_STEP_TOKENS)
    .optional(),
});

const ids = z.array(index).max(MAX_BLOCKS);

export const kvSnapshot = z.strictObject({
  format: z.enum(["f32", "f16", "fp8"]),
  tokens: index,
  rowBytes: index,
  layers: z.array(tensor).max(512),
});

export const stepOutput = z.strictObject({
  step: index,
  logits: tensor.optional(),
  hidden: tensor.optional(),
  layerHidden: z.array(tensor).max(512).optional(),
  routing: z
    .array(z.strictObject({ layer: index, indices: tensor, weights: tensor }))
    .max(512)
    .optional(),
});

export const stageDescription = z.strictObject({
  layers: z.strictObject({ begin: index, end: index }),
  hasEmbedding: z.boolean(),
  hasHead: z.boolean(),
  hasMtp: z.boolean(),
  maxDrafts: index,
  chainsDrafts: z.boolean(),
  vocabSize: index,
  contextTokens: index,
  maxSequences: index,
  maxTokens: index,
  maxOutputs: index,
  memory: z.record(z.string().max(64), z.number()),
  freeKvBlocks: index,
  kvBlockSize: z.int().min(1).max(65_536),
});

export const slotOnly = z.strictObject({ sequence: slot });
export const openCall = z.strictObject({ prefix: blocks });
export const retainCall = z.strictObject({ sequence: slot, first: index, count: index });
export const releaseCall = z.strictObject({ blocks });
export const exportKvCall = z.strictObject({
  sequence: slot,
  range: z.strictObject({ first: index, count: index }).optional(),
});
export const importKvCall = kvSnapshot.extend({ onto: slot.optional() });
export const truncateCall = z.strictObject({ sequence: slot, length: index });
export const samplingCall = z.strictObject({
  sequence: slot,
  parameters: samplingParameters,
  history: z.strictObject({ promptIds: ids, generatedIds: ids }).optional(),
});
export const stepCall = z.strictObject({ batch, activations: formats });
const handNumber = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
export const handing = z.strictObject({
  take: handNumber.optional(),
  after: handNumber.optional(),
  give: z
    .strictObject({
      number: handNumber,
      tokens: z
        .array(z.strictObject({ sequence: slot, place: index }))
        .max(MAX_ENTRIES)
        .optional(),
    })
    .optional(),
});
export const handedStepCall = stepCall.extend({ handing });
export const listenCall = z.strictObject({ peer: z.string().max(200) });
export const handToCall = z.strictObject({ address: z.string().max(4096) });
export const addressResult = z.string().max(4096);
const perEntry = z.array(z.array(index).max(MAX_STEP_TOKENS)).max(MAX_ENTRIES);
export const drafting = z.strictObject({ guesses: perEntry, following: perEntry, drafts: z.int().min(1).max(MAX_DRAFTS) });
export const draftedStepCall = stepCall.extend({ drafting });
export const readCall = z.strictObject({ first: index, count: steps });
export const slotResult = slot;
export const blocksResult = blocks;
export const tokensResult = z.array(z.array(index).max(MAX_STEP_TOKENS)).max(MAX_STEPS_READ);
export const nothing = z.null();
const chosenLogprobs = z
  .array(
    z.strictObject({
      logprob: z.number(),
      top: z.array(z.strictObject({ id: index, logprob: z.number() })).max(256),
    }),
  )
  .max(MAX_ENTRIES);
export const logprobsResult = z.array(chosenLogprobs).max(MAX_STEPS_READ);
export const toldStep = z.strictObject({
  output: stepOutput,
  tokens: z.array(index).max(MAX_STEP_TOKENS),
  logprobs: chosenLogprobs.optional(),
});
export const drafts = z.array(z.array(index).max(MAX_DRAFTS)).max(MAX_ENTRIES);
export const draftedStep = toldStep.extend({ drafts });
