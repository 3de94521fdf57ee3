/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import {
  MAX_DRAFTS,
  type Step,
  TOKEN_FROM_SAMPLER,
  positionFromFirst,
  positionFromLast,
  positionWithin,
  rowAfterRight,
  tokenFromDraft,
  tokenFromRing,
} from "../batch.ts";
import { NO_TOKEN } from "../logprobs/kernel.ts";
import {
  type ContractCase,
  type Random,
  assertEqual,
  randomMatrix,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { type EmbeddingSpec, embedding } from "./kernel.ts";
import { type HostPosition, type Settled, embeddingReference, positionReference } from "./reference.ts";

interface Shape {
  readonly vocab: number;
  readonly width: number;
  readonly tokens: number;
  readonly format: WeightFormat;
  readonly partRows?: number;
}

const SHAPES: readonly Shape[] = [
  { vocab: 1, width: 1, tokens: 1, format: "f32" },
  { vocab: 31, width: 37, tokens: 7, format: "bf16" },
  { vocab: 300, width: 65, tokens: 50, format: "bf16", partRows: 128 },
  { vocab: 129, width: 1031, tokens: 3, format: "f16" },
];
/** Of steps whose rows stand where the last verified step left their sequences. */
const CHAINED_SHAPES: readonly Shape[] = [
  { vocab: 31, width: 37, tokens: 1, format: "f32" },
  { vocab: 300, width: 65, tokens: 70, format: "bf16", partRows: 128 },
];

const SEQUENCES = 5;
const DRAFT_STRIDE = 7;
const RING_ROWS = 128;

export const embeddingContract: readonly ContractCase[] = [
  ...SHAPES.map((shape, index) => ({
    name: `embedding() looks rows up, sampled and drafted tokens and bad ids included, for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => check(gpu, shape, index + 1),
  })),
  ...CHAINED_SHAPES.map((shape, index) => ({
    name: `embedding() of a chained step also puts its rows in their places, for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => checkChained(gpu, shape, index + 1),
  })),
];

type Keep = <B extends GPUBuffer>(buffer: B) => B;

interface Rows {
  /** As the batch has them. */
  readonly step: Step;
  /** Those, or what stands for them in the ring. */
  readonly ids: readonly number[];
  readonly sequences: readonly number[];
  readonly chained?: EmbeddingSpec["chained"];
}

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const { vocab, tokens } = shape;
  await withBuffers(gpu, async (keep) => {
    const ids = Array.from({ length: tokens }, (_, t) => hostToken(random, vocab, t));
    const sequences = ids.map(() => random.integer(SEQUENCES));
    const step = uploadBatch(gpu, { tokens: ids, positions: ids.map(() => 0), sequences, outputRows: [] }, tokens + 2);
    keep(step.batch);
    await lookUp(gpu, keep, random, shape, { step, ids, sequences });
  });
}

async function checkChained(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const { vocab, tokens } = shape;
  const verifiedRow = 1;
  await withBuffers(gpu, async (keep) => {
    // NO_TOKEN follows a wrong draft.
    const chosen = Array.from({ length: 2 * RING_ROWS }, () => (random.integer(6) === 0 ? NO_TOKEN : random.integer(vocab)));
    const settled = Array.from({ length: SEQUENCES }, (): Settled => ({
      position: random.integer(1000),
      right: random.integer(MAX_DRAFTS + 1),
    }));
    const settledOf = (sequence = 0): Settled => settled[sequence] ?? { position: 0, right: 0 };
    const sequences = Array.from({ length: tokens }, () => random.integer(SEQUENCES));
    const rows = sequences.map((sequence, t) => {
      const behind = (["last", "first", "start"] as const)[t % 3] ?? "start";
      const settledAt = behind === "start" ? 0 : settledOf(sequence).position;
      const position: HostPosition = { behind, offset: random.integer(9), first: random.integer(settledAt + 1) };
      const output = random.integer(RING_ROWS);
      const token = hostToken(random, vocab, t);
      const [moves, first] = [t % 4 < 2, random.integer(tokens)];
      return {
        token: t % 2 === 0 ? tokenFromRing(output) : token,
        // NO_TOKEN is past the vocabulary, like any bad id.
        id: t % 2 === 0 ? Math.min(vocab, chosen[verifiedRow * RING_ROWS + output] ?? 0) : token,
        position: encodedPosition(position),
        placed: positionReference(position, settledOf(sequence)),
        outputRow: moves ? rowAfterRight(first) : first,
        placedRow: moves ? first + settledOf(sequences[first]).right : first,
      };
    });
    // Fewer than tokens, where there are several.
    const outputs = rows.slice(0, Math.ceil((tokens * 3) / 4));
    const room = tokens + 2;
    const step = uploadBatch(
      gpu,
      {
        tokens: rows.map(({ token }) => token),
        positions: rows.map(({ position }) => position),
        sequences,
        outputRows: outputs.map(({ outputRow }) => outputRow),
        verifiedRow,
      },
      room,
    );
    keep(step.batch);
    const before = new Uint32Array(await gpu.read(step.batch));
    const places = Uint32Array.from(settled.flatMap(({ position, right }) => [position, right]));
    const chained = {
      ring: keep(gpu.upload("ring", Uint32Array.from(chosen), "activations")),
      ringRows: RING_ROWS,
      settled: keep(gpu.upload("settled", places, "activations")),
    };
    await lookUp(gpu, keep, random, shape, { step, ids: rows.map(({ id }) => id), sequences, chained });
    before.set(
      rows.map(({ placed }) => placed),
      4 + room,
    );
    before.set(
      outputs.map(({ placedRow }) => placedRow),
      4 + 3 * room,
    );
    assertEqual(new Uint32Array(await gpu.read(step.batch)), before, "the batch");
  });
}

/** A token as the host may have it: the one last sampled, a draft, an id, or a bad one. */
function hostToken(random: Random, vocab: number, t: number): number {
  if (t % 5 === 3) return TOKEN_FROM_SAMPLER;
  if (t % 5 === 2) return tokenFromDraft(random.integer(MAX_DRAFTS));
  return t % 7 === 6 ? vocab + random.integer(9) : random.integer(vocab);
}

function encodedPosition({ behind, offset, first }: HostPosition): number {
  if (behind === "start") return positionWithin(offset, first);
  return positionWithin(behind === "first" ? positionFromFirst(offset) : positionFromLast(offset), first);
}

async function lookUp(gpu: GpuContext, keep: Keep, random: Random, shape: Shape, { step, ids, sequences, chained }: Rows): Promise<void> {
  const { vocab, width, tokens, format, partRows } = shape;
  const { matrix, values } = randomMatrix(gpu, random, { rows: vocab, cols: width, format, ...(partRows && { partRows }) });
  for (const part of matrix.parts) keep(part.buffer);
  const lastTokens = Uint32Array.from({ length: SEQUENCES }, () => random.integer(vocab));
  const lastDrafts = Uint32Array.from({ length: MAX_DRAFTS * DRAFT_STRIDE }, () => random.integer(vocab));
  const outStride = roundUp(width, 16) + 16;
  const before = new Float32Array((tokens + 1) * outStride).fill(9);
  const out = keep(gpu.upload("out", before, "activations"));
  // A grid of one token too many: the batch's count decides.
  const dispatches = await embedding(gpu, {
    table: matrix,
    step,
    lastTokens: keep(gpu.upload("last tokens", lastTokens, "activations")),
    lastDrafts: keep(gpu.upload("last drafts", lastDrafts, "activations")),
    draftStride: DRAFT_STRIDE,
    chained,
    out,
    outStride,
    tokens: tokens + 1,
  });
  const result = await runAndRead(gpu, dispatches, out);
  const expected = embeddingReference(values, vocab, width, ids, sequences, lastTokens, lastDrafts, DRAFT_STRIDE);
  assertEqual(unpadded(result, tokens, width, outStride), expected, "out");
  for (let t = 0; t < tokens; t++)
    assertEqual(
      result.subarray(t * outStride + width, t * outStride + roundUp(width, 16)),
      new Float32Array(roundUp(width, 16) - width),
      "padding",
    );
  assertEqual(result.subarray(tokens * outStride), before.subarray(tokens * outStride), "the row after the last");
}
