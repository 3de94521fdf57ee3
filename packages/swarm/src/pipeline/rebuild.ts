/** What a stage was given goes to a new one again, for all sequences: then that one is where the old one was. */
import type { SequenceSlot } from "@shoal/model";
import { SequenceHistory } from "./history.ts";
import { type ActiveHop, HopFault, type ModelShape, isLackOfRoom } from "./hop.ts";

/**
 * @param hops in the order of their layers, with nothing open
 * @throws HopFault
 */
export async function rebuild(
  hops: readonly ActiveHop[],
  sequences: ReadonlyMap<SequenceSlot, SequenceHistory>,
  shape: ModelShape,
): Promise<void> {
  for (const [sequence, history] of sequences)
    for (const [index, hop] of hops.entries()) {
      try {
        await rebuildOn(hop, sequence, history, shape, index + 1 < hops.length);
      } catch (error) {
        // Also where there is nobody else at the moment: others leave, and make room.
        throw isLackOfRoom(error) ? new HopFault(hop.hop.peer, "full", error.message, { cause: error }) : error;
      }
    }
}

/** A last stage chooses as the one before it did. */
export async function giveSampling(hop: ActiveHop, slot: SequenceSlot, history: SequenceHistory, { nLayers }: ModelShape): Promise<void> {
  const sampling = history.samplingSoFar();
  if (hop.end === nLayers && sampling) await hop.call(hop.stage.setSampling(slot, sampling.parameters, sampling.history));
}

/** @param onward whether what comes out is the input of another stage that is new */
async function rebuildOn(
  hop: ActiveHop,
  sequence: SequenceSlot,
  history: SequenceHistory,
  shape: ModelShape,
  onward: boolean,
): Promise<void> {
  const slot = await hop.call(hop.stage.open());
  hop.slots.set(sequence, slot);
  await giveSampling(hop, slot, history, shape);
  const next = new SequenceHistory(shape.hiddenSize);
  const drafts = history.drafts && hop.description.hasMtp;
  for (const { tokens, hidden } of history.pieces(hop.begin, hop.description.maxTokens)) {
    const entries = [{ sequence: slot, tokens, ...(hidden && { hidden }), ...(drafts && { quiet: true }) }];
    if (drafts) {
      const following = [[...tokens.slice(1), tokens.at(-1) ?? 0]];
      await hop.forwardTold({ entries, output: "sample" }, tokens.length, 0, { guesses: [[]], following, drafts: 1 });
      continue;
    }
    const output = await hop.forward({ entries, output: onward ? "hidden" : "none" }, tokens.length);
    if (onward && output.hidden) next.add(hop.end, { tokens, hidden: output.hidden });
  }
  if (!onward) return;
  history.drop(hop.end);
  for (const input of next.inputs(hop.end)) history.add(hop.end, input);
}
