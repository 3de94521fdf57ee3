/** Several stages seen as one: their order, what they are together, what a step's outputs come to, and which batches they would refuse. */
import { type Batch, type BatchEntry, ModelError, type SequenceSlot, type StageDescription, type StepOutput, toldRows } from "@shoal/model";
import { ClusterError } from "../errors.ts";
import { entryRows } from "../stage/messages.ts";

/** @throws ClusterError named bad-plan */
export function checkOrder(descriptions: readonly StageDescription[]): void {
  const bad = (message: string): ClusterError => new ClusterError("bad-plan", `Cannot make a pipeline: ${message}`);
  if (descriptions.length === 0) throw bad("there are no stages");
  let next = 0;
  for (const [index, { layers, kvBlockSize, hasHead }] of descriptions.entries()) {
    if (layers.begin !== next) throw bad(`stage ${index} begins with layer ${layers.begin}, expected ${next}`);
    if (kvBlockSize !== descriptions[0]?.kvBlockSize) throw bad(`stage ${index} has KV blocks of ${kvBlockSize} tokens`);
    if (hasHead !== (index === descriptions.length - 1)) throw bad(`stage ${index} ${hasHead ? "has a" : "has no"} head`);
    next = layers.end;
  }
}

/** One description for all. */
export function joinDescriptions(descriptions: readonly StageDescription[]): StageDescription {
  const first = descriptions[0];
  const last = descriptions.at(-1);
  if (!first || !last) throw new ClusterError("bad-plan", "A pipeline has no stages");
  const least = (of: (description: StageDescription) => number): number => Math.min(...descriptions.map(of));
  const memory: Record<string, number> = {};
  for (const description of descriptions)
    for (const [kind, bytes] of Object.entries(description.memory)) memory[kind] = (memory[kind] ?? 0) + bytes;
  return {
    ...last,
    layers: { begin: first.layers.begin, end: last.layers.end },
    hasEmbedding: first.hasEmbedding,
    contextTokens: least(({ contextTokens }) => contextTokens),
    maxSequences: least(({ maxSequences }) => maxSequences),
    maxTokens: least(({ maxTokens }) => maxTokens),
    // The first stage has to be told the tokens that the last one chose.
    chainsDrafts: false,
    memory,
    freeKvBlocks: least(({ freeKvBlocks }) => freeKvBlocks),
  };
}

export function joinOutputs(outputs: readonly StepOutput[]): StepOutput {
  const last = outputs.at(-1);
  if (!last) throw new ClusterError("bad-plan", "A pipeline has no stages");
  if (outputs.length === 1) return last;
  const captures = outputs.some(({ layerHidden }) => layerHidden);
  const routed = outputs.some(({ routing }) => routing);
  return {
    ...last,
    ...(captures && { layerHidden: outputs.flatMap(({ layerHidden = [] }) => layerHidden) }),
    ...(routed && { routing: outputs.flatMap(({ routing = [] }) => routing) }),
  };
}

/** Tokens that an entry names itself: those that it verifies follow. */
export function tokensNamed({ tokens }: Pick<BatchEntry, "tokens">): number {
  return tokens === "sampled" ? 1 : tokens.length;
}

/** Hidden states of each entry. */
export function splitRows(
  hidden: Float32Array<ArrayBuffer> | undefined,
  counts: readonly number[],
): readonly { readonly hidden?: Float32Array<ArrayBuffer> }[] {
  if (!hidden) return counts.map(() => ({}));
  const columns = hidden.length / counts.reduce((sum, count) => sum + count, 0);
  let begin = 0;
  return counts.map((count) => {
    const rows = hidden.subarray(begin * columns, (begin + count) * columns);
    begin += count;
    return { hidden: rows };
  });
}

/** Refuses what a stage would refuse. @param checkOpen throws for a sequence that is not open @throws ModelError named bad-batch, or unsupported for one that chains */
export function checkBatch(
  { entries, output, chain = false }: Batch,
  joined: StageDescription,
  checkOpen: (sequence: SequenceSlot) => void,
): void {
  if (chain) throw new ModelError("unsupported", "Cannot chain steps: expected a stage of all layers with an MTP module");
  const { vocabSize, maxTokens, maxOutputs } = joined;
  const seen = new Set<number>();
  let rows = 0;
  let chosen = 0;
  for (const entry of entries) {
    const { sequence, tokens } = entry;
    if (seen.has(sequence)) throw new ModelError("bad-batch", `Cannot run a batch: sequence ${sequence} is in it twice`);
    seen.add(sequence);
    checkOpen(sequence);
    if (tokens.length === 0) throw new ModelError("bad-batch", "Cannot run a batch: an entry has no tokens");
    const bad = tokens === "sampled" ? undefined : tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (bad !== undefined) throw new ModelError("bad-batch", `Cannot run token ${bad}, expected an id from 0 to ${vocabSize - 1}`);
    rows += entryRows(entry);
    if (output === "allLogits") chosen += entryRows(entry);
    else if (output === "lastLogits") chosen++;
    else if (output === "sample") chosen += toldRows(entry);
  }
  if (rows === 0 || rows > maxTokens) throw new ModelError("bad-batch", `Cannot run a batch of ${rows} tokens, expected 1 to ${maxTokens}`);
  if (chosen > maxOutputs)
    throw new ModelError("bad-batch", `Cannot give logits of ${chosen} rows in one step, expected at most ${maxOutputs}`);
}
