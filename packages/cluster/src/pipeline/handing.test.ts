/** Stages that hand on by themselves, with stages that compute with small whole numbers: every token depends on all that its sequence had before it, so whatever goes astray shows. */
import { type Batch, ModelError, type SequenceSlot, type Stage, type StageDescription, type StepOutput } from "@shoal/model";
import { describe, expect, it } from "vitest";
import { memoryLines } from "../../test/support/memoryLines.ts";
import { memoryChannel } from "../channels/memory.ts";
import { remoteStage } from "../stage/remoteStage.ts";
import { serveStage } from "../stage/stageServer.ts";
import { Turnstile } from "../stage/turnstile.ts";
import type { FrameChannel } from "../wire/channel.ts";
import { PipelineStage } from "./pipelineStage.ts";

const VOCAB = 97;
const STAGES = 3;

/** Repeats itself. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Adds up what its sequences are given. @param delay turns of the event loop that a call takes */
class Adder implements Stage {
  readonly #index: number;
  readonly #delay: () => number;
  readonly #sums = new Map<SequenceSlot, number>();
  readonly #chosen: (readonly number[])[] = [];
  #turn: Promise<unknown> = Promise.resolve();
  fails = false;

  constructor(index: number, delay: () => number) {
    this.#index = index;
    this.#delay = delay;
  }

  async describe(): Promise<StageDescription> {
    return {
      layers: { begin: this.#index, end: this.#index + 1 },
      hasEmbedding: this.#index === 0,
      hasHead: this.#index === STAGES - 1,
      hasMtp: false,
      maxDrafts: 0,
      chainsDrafts: false,
      vocabSize: VOCAB,
      contextTokens: 4096,
      maxSequences: 8,
      maxTokens: 64,
      maxOutputs: 64,
      memory: {},
      freeKvBlocks: 1024,
      kvBlockSize: 32,
    };
  }

  open(): Promise<SequenceSlot> {
    return this.#inTurn(() => {
      let slot = this.#index as SequenceSlot;
      while (this.#sums.has(slot)) slot = (slot + 1) as SequenceSlot;
      this.#sums.set(slot, this.#index);
      return slot;
    });
  }

  close(sequence: SequenceSlot): Promise<void> {
    return this.#inTurn(() => void this.#sums.delete(sequence));
  }

  forward(batch: Batch): Promise<StepOutput> {
    return this.#inTurn(() => {
      if (this.fails) throw new ModelError("bad-batch", "it fails");
      const hidden: number[] = [];
      const chosen: number[] = [];
      for (const { sequence, tokens, hidden: given } of batch.entries) {
        if (this.#index === 0 && tokens === "sampled") throw new ModelError("bad-batch", "the first stage has no token");
        const before = this.#sums.get(sequence);
        if (before === undefined) throw new ModelError("unknown-sequence", `sequence ${sequence} is not open`);
        const inputs = this.#index === 0 && tokens !== "sampled" ? tokens : [...(given ?? [])];
        if (inputs.length !== (tokens === "sampled" ? 1 : tokens.length)) throw new ModelError("bad-batch", `${inputs.length} rows`);
        let sum = before;
        for (const input of inputs) hidden.push((sum = (sum * 3 + input + this.#index + 1) % VOCAB));
        this.#sums.set(sequence, sum);
        chosen.push(sum);
      }
      if (batch.output === "sample") this.#chosen.push(chosen);
      return { step: this.#chosen.length - 1, ...(batch.output === "hidden" && { hidden: Float32Array.from(hidden) }) };
    });
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    await turns(this.#delay());
    return this.#chosen.slice(first, first + count);
  }

  readonly #refuse = (): never => {
    throw new RangeError("Not part of this test");
  };
  readonly truncate = async (): Promise<void> => undefined;
  readonly setSampling = async (): Promise<void> => undefined;
  readonly destroy = async (): Promise<void> => undefined;
  readonly draft = this.#refuse;
  readonly drafted = this.#refuse;
  readonly logprobs = this.#refuse;
  readonly retain = this.#refuse;
  readonly release = this.#refuse;
  readonly exportKv = this.#refuse;
  readonly importKv = this.#refuse;

  #inTurn<T>(work: () => T): Promise<T> {
    const result = this.#turn.then(async () => {
      const value = work();
      await turns(this.#delay());
      return value;
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

interface Served {
  readonly pipeline: PipelineStage;
  readonly adders: readonly Adder[];
  readonly remote: readonly ReturnType<typeof remoteStage>[];
  /** To each stage. */
  readonly channels: readonly FrameChannel[];
  readonly lines: readonly FrameChannel[];
}

async function served(delay: () => number, handing: boolean): Promise<Served> {
  const lines: FrameChannel[] = [];
  const shared = memoryLines((ends) => void lines.push(...ends));
  const adders = Array.from({ length: STAGES }, (_, index) => new Adder(index, delay));
  const channels: FrameChannel[] = [];
  const remote = adders.map((adder, index) => {
    const [here, there] = memoryChannel();
    channels.push(here);
    void serveStage(there, adder, { lines: shared });
    return remoteStage(here, { peer: `stage ${index}` });
  });
  return { pipeline: await PipelineStage.open(remote, { handing }), adders, remote, channels, lines };
}

/** Sequences that come and go, each with a prompt and some tokens, several steps ahead of whoever reads them. @returns the tokens of each */
async function talk(pipeline: Stage, seed: number): Promise<string> {
  const random = randomOf(seed);
  const running = new Map<SequenceSlot, { readonly name: number; left: number; begun: boolean }>();
  const said: number[][] = [];
  const reads: Promise<void>[] = [];
  for (let name = 0; name < 12 || running.size > 0;) {
    if (name < 12 && running.size < 5 && random(3) === 0) {
      said[name] = [];
      running.set(await pipeline.open(), { name: name++, left: 1 + random(9), begun: false });
    }
    const some = [...running].filter(() => random(4) > 0);
    if (some.length === 0) continue;
    const entries = some.map(([sequence, { name, begun }]) => ({
      sequence,
      tokens: begun ? ("sampled" as const) : Array.from({ length: 1 + (name % 4) }, (_, index) => (name * 7 + index) % VOCAB),
    }));
    const { step } = await pipeline.forward({ entries, output: "sample" });
    // Readings may be through in another order.
    const places = some.map(([, { name }]) => ({ name, place: (said[name]?.push(-1) ?? 0) - 1 }));
    reads.push(
      pipeline.sampled(step, 1).then(([tokens = []]) => {
        for (const [index, { name, place }] of places.entries()) said[name]?.splice(place, 1, tokens[index] ?? -1);
      }),
    );
    for (const [sequence, each] of some) {
      each.begun = true;
      if (--each.left > 0) continue;
      running.delete(sequence);
      await pipeline.close(sequence);
    }
    if (random(5) === 0) await reads.at(-1);
  }
  await Promise.all(reads);
  return JSON.stringify(said);
}

describe("stages that hand on by themselves", () => {
  it.each(Array.from({ length: 40 }, (_, seed) => [seed]))(
    "say what they say when all goes by whoever runs them, whatever takes how long: seed %i",
    async (seed) => {
      const random = randomOf(seed + 1000);
      const [handed, carried] = [await served(() => random(4), true), await served(() => 0, false)];
      expect(handed.lines).toHaveLength(2 * STAGES);
      expect(carried.lines).toHaveLength(0);
      expect(await talk(handed.pipeline, seed)).toBe(await talk(carried.pipeline, seed));
    },
  );

  it("send no hidden states to whoever runs them, nor get any from there", async () => {
    const { pipeline, remote } = await served(() => 0, true);
    const sequence = await pipeline.open();
    const tokens = Array.from({ length: 64 }, (_, index) => index);
    await pipeline.sampled((await pipeline.forward({ entries: [{ sequence, tokens }], output: "sample" })).step, 1);
    const before = remote.map(({ traffic }) => ({ ...traffic }));
    for (let step = 0; step < 10; step++) {
      const { step } = await pipeline.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
      await pipeline.sampled(step, 1);
    }
    for (const [k, { traffic }] of remote.entries()) {
      expect(traffic.messagesSent - (before[k]?.messagesSent ?? 0)).toBe(10);
      expect(traffic.messagesReceived - (before[k]?.messagesReceived ?? 0)).toBe(10);
    }
    // Of 64 rows; here a row is one number.
    const prompt = 64 * Float32Array.BYTES_PER_ELEMENT;
    for (const [k, each] of before.entries()) if (k > 0) expect(each.bytesReceived).toBeLessThan(prompt * 5);
  });

  it("fail with the loss of the stage before, and are given back by a pipeline that is given up", async () => {
    for (const victim of [0, 1, 2]) {
      const { pipeline, channels } = await served(() => 2, true);
      const sequence = await pipeline.open();
      const { step } = await pipeline.forward({ entries: [{ sequence, tokens: [1, 2] }], output: "sample" });
      const more = Array.from({ length: 6 }, () => pipeline.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" }));
      await pipeline.sampled(step, 1);
      channels[victim]?.close("it was killed");
      const failure = await Promise.all(more)
        .then((steps) => pipeline.sampled(steps.at(-1)?.step ?? 0, 1))
        .catch((error: unknown) => error);
      expect(failure).toHaveProperty("name", "PeerLostError");
      const left = await pipeline.abandon();
      expect(left.map((stage) => stage !== undefined)).toEqual([0, 1, 2].map((k) => k !== victim));
    }
  });

  it("fail when only a line between two of them breaks, and work again over another pipeline", async () => {
    const { pipeline, lines, adders } = await served(() => 1, true);
    const sequence = await pipeline.open();
    await pipeline.sampled((await pipeline.forward({ entries: [{ sequence, tokens: [1] }], output: "sample" })).step, 1);
    for (const line of lines) line.close("it broke");
    await turns(5);
    const { step } = await pipeline.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
    await expect(pipeline.sampled(step, 1)).rejects.toHaveProperty("name", "PeerLostError");
    const left = await pipeline.abandon();
    expect(left).toHaveLength(adders.length);
    const again = await PipelineStage.open(left.flatMap((stage) => stage ?? []));
    expect(await talk(again, 5)).toBe(await talk((await served(() => 0, false)).pipeline, 5));
  });

  it("tell why a step failed, and whoever waits for its output learns it too", async () => {
    for (const broken of [0, 1, 2]) {
      const { pipeline, adders } = await served(() => 1, true);
      const sequence = await pipeline.open();
      const adder = adders[broken];
      if (adder) adder.fails = true;
      const { step } = await pipeline.forward({ entries: [{ sequence, tokens: [1] }], output: "sample" });
      await expect(pipeline.sampled(step, 1)).rejects.toMatchObject({ name: "ModelError", code: "bad-batch" });
      expect(await pipeline.abandon()).toHaveLength(STAGES);
    }
  });
});

describe("a turnstile", () => {
  it("begins work in order, at once where nothing waits, and goes on after what could not begin", async () => {
    const turnstile = new Turnstile();
    const begun: number[] = [];
    let come: () => void = () => undefined;
    const waits = new Promise<void>((resolve) => (come = resolve));
    void turnstile.run(() => void begun.push(0));
    expect(begun).toEqual([0]);
    const second = turnstile.run(
      () => void begun.push(1),
      () => waits,
    );
    const third = turnstile.run(
      () => void begun.push(2),
      () => Promise.reject(new RangeError("it never comes")),
    );
    const fourth = turnstile.run(() => void begun.push(3));
    await turns(2);
    expect(begun).toEqual([0]);
    come();
    await expect(third).rejects.toThrow("it never comes");
    await Promise.all([second, fourth]);
    expect(begun).toEqual([0, 1, 3]);
    void turnstile.run(() => void begun.push(4));
    expect(begun).toEqual([0, 1, 3, 4]);
  });
});
