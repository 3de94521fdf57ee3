import type { Command } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { HeldDrafts } from "./heldDrafts.ts";
import type { SequenceSlot } from "./kvCache.ts";

const [first, second] = [0, 1] as SequenceSlot[] as [SequenceSlot, SequenceSlot];
const command = (size: number): Command => ({ copy: { from: {} as GPUBuffer, fromOffset: 0, to: {} as GPUBuffer, toOffset: 0, size } });

describe("HeldDrafts", () => {
  it("gives out what it was given, in its order, once", () => {
    const held = new HeldDrafts();
    const [a, b, c] = [command(1), command(2), command(3)];
    held.hold([a, b], [first]);
    held.hold([c], [first]);
    expect(held.take()).toEqual([a, b, c]);
    expect(held.take()).toEqual([]);
  });

  it("gives what others go on from when a sequence ends, so that its place is not another's by then", () => {
    const held = new HeldDrafts();
    held.hold([command(1)], [first, second]);
    expect(held.close(first)).toHaveLength(1);
    expect(held.take()).toEqual([]);
    expect(held.close(second)).toEqual([]);
  });

  it("drops what nobody else goes on from", () => {
    const held = new HeldDrafts();
    held.hold([command(1)], [first]);
    expect(held.close(second)).toEqual([]);
    expect(held.close(first)).toEqual([]);
    expect(held.take()).toEqual([]);
  });

  it("is not emptied by the end of a sequence whose drafts were taken before", () => {
    const held = new HeldDrafts();
    held.hold([command(1)], [first]);
    held.take();
    held.hold([command(2)], [second]);
    expect(held.close(first)).toEqual([]);
    expect(held.take()).toHaveLength(1);
  });
});
