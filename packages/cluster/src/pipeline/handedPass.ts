/** A micro-batch's way through stages that hand on by themselves: all are asked at once, when everything that it must come after has been asked for. */
import type { Batch, BatchEntry, SequenceSlot } from "@shoal/model";
import type { HandedToken, Handing } from "../stage/handing.ts";
import type { ToldStep } from "../stage/toldStep.ts";
import { tokensNamed } from "./joined.ts";
import type { Lane } from "./lane.ts";
import type { Ring } from "./ring.ts";

export interface HandedEntry {
  readonly entry: BatchEntry;
  /** On each stage. */
  readonly slots: readonly Promise<SequenceSlot>[];
  /** By which number the first stage gets the sequence's last token; undefined where it gets none. */
  readonly handed: Promise<number | undefined>;
  /** The tokens of its rows, drafts included, where the first stage has not got them. */
  readonly ids: () => Promise<readonly number[]>;
  /** Of the tokens that the step tells of, the place of the last one of this entry; undefined for none. */
  readonly place: number | undefined;
}

export interface HandedPass {
  /** When all stages have been asked: the number by which tokens go to the first. */
  readonly sent: Promise<number>;
  readonly told: Promise<ToldStep>;
}

/** Whether a step can go so: nothing comes back from it but tokens. */
export function isHandable({ output, capture }: Batch): boolean {
  return (output === "sample" || output === "none") && capture === undefined;
}

/** @param after calls that must have been made before, on whichever stage */
export function passHanded(
  ring: Ring,
  lanes: readonly Lane[],
  batch: Batch,
  entries: readonly HandedEntry[],
  after: readonly Promise<unknown>[],
): HandedPass {
  const before = Promise.all([...after, ...lanes.map(({ freed }) => freed)]);
  const asked = (async () => {
    await before;
    const slots = await Promise.all(entries.map((entry) => Promise.all(entry.slots)));
    const tokens = await Promise.all(
      entries.map(async ({ entry: { tokens, verify = 0 }, handed, ids }) => {
        const number = tokens === "sampled" && verify === 0 ? await handed : undefined;
        return number === undefined ? { ids: await ids() } : { number };
      }),
    );
    // From here on nothing is awaited: every stage is asked for its steps in the same order, or they would wait for one another.
    const number = ring.number();
    const numbers = tokens.flatMap((each) => each.number ?? []);
    const last = ring.stages.length - 1;
    const results = ring.stages.map((stage, k) => {
      const lane = lanes[k];
      if (!lane) throw new RangeError(`The pipeline has no stage ${k}`);
      const own = entries.map(({ entry }, index): BatchEntry => {
        const sequence = slotOf(slots, index, k);
        const { ids } = tokens[index] ?? {};
        // Only the first stage looks at what the tokens are, the others at how many.
        const rows = ids ?? [0];
        if (k === last) return { ...entry, sequence, tokens: rows.slice(0, tokensNamed(entry)) };
        return { sequence, tokens: k === 0 && !ids ? "sampled" : rows };
      });
      const step: Batch = k < last ? { entries: own, output: "hidden" } : { ...batch, entries: own };
      const firsts = entries.flatMap(({ place }, index): readonly HandedToken[] =>
        place === undefined ? [] : [{ sequence: slotOf(slots, index, 0), place }],
      );
      const gives = k < last ? { number } : batch.output === "sample" ? { number, tokens: firsts } : undefined;
      const handing: Handing = {
        ...(k > 0 && { take: number }),
        ...(k === 0 && numbers.length > 0 && { after: Math.max(...numbers) }),
        ...(gives && { give: gives }),
      };
      return lane.begin(() => stage.forwardHanded(step, handing));
    });
    return { number, results };
  })();
  const told = asked.then(async ({ results }) => {
    const all = await Promise.all(results);
    const last = all.at(-1);
    if (!last) throw new RangeError("The pipeline has no stages");
    return last;
  });
  return { sent: asked.then(({ number }) => number), told };
}

function slotOf(slots: readonly (readonly SequenceSlot[])[], index: number, k: number): SequenceSlot {
  const slot = slots[index]?.[k];
  if (slot === undefined) throw new RangeError(`There is no stage ${k}`);
  return slot;
}
