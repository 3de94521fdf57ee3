/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import { MAX_DRAFTS } from "../batch.ts";
import { NO_TOKEN } from "../logprobs/kernel.ts";
import { type ContractCase, assertEqual, seededRandom, uploadBatch, withBuffers } from "../testing/mod.ts";
import { settleDrafts, settledBytes } from "./kernel.ts";
import { type VerifiedSequence, rightDrafts } from "./reference.ts";

const SLOTS = 96;
const DRAFT_STRIDE = 128;
const RING_ROWS = 512;
const RING_ROW = 1;

export const settleContract: readonly ContractCase[] = [1, 5, 70].map((count) => ({
  name: `settleDrafts() finds which drafts were right of ${count} sequences`,
  run: (gpu: GpuContext) => check(gpu, count),
}));

/** Of several rows each, with few tokens, so that drafts are often right by chance. */
function randomSequences(count: number): readonly VerifiedSequence[] {
  const random = seededRandom(count);
  const few = (length: number): number[] => Array.from({ length }, () => random.integer(2));
  return Array.from({ length: count }, (_, index) => ({
    slot: (index * 7 + 3) % SLOTS,
    position: random.integer(1000),
    chosen: few(1 + random.integer(MAX_DRAFTS + 1)),
    drafts: few(MAX_DRAFTS),
  }));
}

async function words(gpu: GpuContext, buffer: GPUBuffer): Promise<Uint32Array> {
  return new Uint32Array(await gpu.read(buffer));
}

async function check(gpu: GpuContext, count: number): Promise<void> {
  const sequences = randomSequences(count);
  await withBuffers(gpu, async (keep) => {
    const rows = sequences.flatMap(({ slot, position, chosen }) => chosen.map((id, row) => ({ slot, position: position + row, id })));
    // The first sequence's prompt comes before its verified row: those outputs have given tokens, which nobody chose.
    const given = [5, 6, ...rows.map(() => undefined)];
    const [first] = rows;
    const all = [{ slot: first?.slot ?? 0, position: 0, id: 5 }, { slot: first?.slot ?? 0, position: 1, id: 6 }, ...rows];
    const outputRows = all.map((_, row) => row);
    const maxTokens = all.length + 3;
    const verified = uploadBatch(
      gpu,
      {
        tokens: all.map(() => 0),
        positions: all.map(({ position }) => position),
        sequences: all.map(({ slot }) => slot),
        outputRows,
        given,
        ringRow: RING_ROW,
      },
      maxTokens,
    );
    keep(verified.batch);
    const ringWords = new Uint32Array(RING_ROWS * 2).fill(77);
    ringWords.set(
      all.map(({ id }) => id),
      RING_ROW * RING_ROWS,
    );
    const draftWords = new Uint32Array(MAX_DRAFTS * DRAFT_STRIDE).fill(88);
    for (const { slot, drafts } of sequences) for (const [index, id] of drafts.entries()) draftWords[index * DRAFT_STRIDE + slot] = id;
    const ring = keep(gpu.upload("ring", ringWords, "activations"));
    const lastDrafts = keep(gpu.upload("drafts", draftWords, "activations"));
    const lastTokens = keep(gpu.upload("latest", new Uint32Array(SLOTS).fill(99), "activations"));
    const settled = keep(gpu.upload("settled", new Uint32Array(settledBytes(SLOTS) / 4).fill(55), "activations"));
    const spec = { ring, ringRows: RING_ROWS, settled, lastDrafts, draftStride: DRAFT_STRIDE, lastTokens } as const;
    gpu.submit(await settleDrafts(gpu, { step: verified, ...spec }));
    const [places, latest, ringAfter] = await Promise.all([settled, lastTokens, ring].map((buffer) => words(gpu, buffer)));

    const expectedPlaces = new Uint32Array(SLOTS * 2).fill(55);
    const expectedLatest = new Uint32Array(SLOTS).fill(99);
    const expectedRing = ringWords.slice();
    let at = RING_ROW * RING_ROWS + 2;
    for (const sequence of sequences) {
      const right = rightDrafts(sequence);
      expectedPlaces.set([sequence.position, right], sequence.slot * 2);
      expectedLatest[sequence.slot] = sequence.chosen[right] ?? 0;
      expectedRing.fill(NO_TOKEN, at + right + 1, at + sequence.chosen.length);
      at += sequence.chosen.length;
    }
    assertEqual(places ?? [], expectedPlaces, "places");
    assertEqual(latest ?? [], expectedLatest, "latest");
    assertEqual(ringAfter ?? [], expectedRing, "ring");
  });
}
