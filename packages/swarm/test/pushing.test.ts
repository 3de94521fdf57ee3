/** Stages that push to one another: who may, and what becomes of what is lost, late, doubled or forged on the way. */
import { type Frame, Tensor, decodeFrame } from "@shoal/cluster";
import type { SequenceSlot } from "@shoal/model";
import { describe, expect, test } from "vitest";
import type { Fault } from "../src/pipeline/hop.ts";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import { choosePath } from "../src/plan/path.ts";
import { type Push, decodePush, encodePush, maxPushBytes } from "../src/push/messages.ts";
import { PushInbox } from "../src/push/pushInbox.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { FakePeer } from "./fakePeer.ts";
import { SimulatedClock } from "./simulatedClock.ts";

const PROMPT = Array.from({ length: 20 }, (_, index) => (index * 31) % FAKE.vocabSize);
const TOKENS = 30;
const solo = () => answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), PROMPT, TOKENS);

interface Fleet {
  readonly stage: SwarmStage;
  readonly clock: SimulatedClock;
  readonly faults: { readonly peer: string; readonly fault: Fault }[];
  readonly at: (name: string) => FakePeer;
}

/** Three stages, two peers for each; the first of the two is quicker. */
async function fleet(): Promise<Fleet> {
  const network = new Map<string, FakePeer>();
  for (const [name, begin, end] of [
    ["a", 0, 2],
    ["b", 2, 4],
    ["c", 4, 6],
  ] as const) {
    new FakePeer(name, begin, end, 5).join(network);
    new FakePeer(`${name}2`, begin, end, 50).join(network);
  }
  const faults: { peer: string; fault: Fault }[] = [];
  const clock = new SimulatedClock();
  const at = (name: string): FakePeer => {
    const peer = network.get(name);
    if (!peer) throw new Error(`no peer '${name}'`);
    return peer;
  };
  const stage = await SwarmStage.open({
    ...FAKE,
    clock,
    plan: (question) => {
      const peers = [...network.values()].filter(({ dead }) => !dead).map(({ known }) => known);
      return choosePath({ nLayers: FAKE.nLayers, peers, rttMs: () => 10, ...question });
    },
    missing: () => [],
    open: async ({ peer }) => at(peer).opened(),
    onFault: (peer, fault) => faults.push({ peer, fault }),
  });
  await turns(20);
  return { stage, clock, faults, at };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function changed(frame: Frame, change: (values: Float32Array<ArrayBuffer>) => void): Frame {
  const push = decodePush(frame);
  const values = Float32Array.from(push.hidden.data);
  change(values);
  return encodePush({ ...push, hidden: new Tensor(values, push.hidden.shape) });
}

describe("stages that push", () => {
  test("what one gives goes to the next, and each computes a token once", async () => {
    const { stage, at } = await fleet();
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    // Two pieces of the prompt, and what follows.
    const steps = 2 + TOKENS;
    expect(["a", "b", "c"].map((name) => at(name).stage.calls)).toEqual([steps, steps, steps]);
    expect(["a", "b", "c"].map((name) => at(name).pushes)).toEqual([0, steps, steps]);
    await stage.destroy();
  });

  test.each([
    ["before what it computed has left it", false],
    ["when what it computed has come to the next alone", true],
  ])("one that is lost %s is replaced, and what the others computed of that step is taken back", async (_, arrives) => {
    for (const [victim, next] of [
      ["a", "b"],
      ["b", "c"],
    ] as const) {
      const { stage, at, faults } = await fleet();
      const { onPush } = at(next);
      const sequence: SequenceSlot = await stage.open();
      const parameters = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 1n, repetitionPenalty: 1.1 };
      await stage.setSampling(sequence, parameters, { promptIds: PROMPT.slice(0, 4), generatedIds: [] });
      let { step } = await stage.forward({ entries: [{ sequence, tokens: PROMPT.slice(0, 4) }], output: "sample" });
      const ids: number[] = [];
      for (let token = 0; token < TOKENS; token++) {
        const [[id = -1] = []] = await stage.sampled(step, 1);
        ids.push(id);
        if (token === 9)
          at(next).onPush = (frame) => {
            at(next).onPush = onPush;
            if (arrives) setImmediate(() => at(victim).kill());
            else at(victim).kill();
            return arrives ? [frame] : [];
          };
        ({ step } = await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" }));
      }
      expect(ids).toEqual(await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), PROMPT.slice(0, 4), TOKENS));
      expect(faults).toEqual([{ peer: victim, fault: "lost" }]);
      expect(stage.path.map(({ peer }) => peer)).toEqual(["a", "b", "c"].map((name) => (name === victim ? `${name}2` : name)));
      const told = at("c").stage.samplings.at(-1)?.generatedIds ?? [];
      expect(told).toEqual(ids.slice(0, told.length));
      await stage.destroy();
    }
  });

  test("what comes twice, and what comes again later, counts once", async () => {
    const { stage, at, faults } = await fleet();
    const seen: Frame[] = [];
    at("b").onPush = (frame) => {
      seen.push(frame.slice());
      return [frame, frame.slice(), ...seen.slice(0, 3).map((one) => one.slice())];
    };
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    expect(at("b").stage.calls).toBe(2 + TOKENS);
    expect(faults).toEqual([]);
    await stage.destroy();
  });

  test("what does not come is given by the client, which then carries what goes between the two for a while", async () => {
    const { stage, at, clock, faults } = await fleet();
    const ticking = setInterval(() => void clock.advance(100), 1);
    let dropped = 0;
    at("b").onPush = (frame) => (dropped === 0 && decodePush(frame).number === 7 ? (dropped++, []) : [frame]);
    let pushes = 0;
    const ids = await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 15) pushes = at("b").pushes;
      if (token === 16) for (const until = clock.now() + 12_000; clock.now() < until;) await turns(1);
    });
    clearInterval(ticking);
    expect(ids).toEqual(await solo());
    expect(dropped).toBe(1);
    expect(pushes).toBe(8);
    expect(at("b").pushes).toBeGreaterThan(15);
    expect(at("b").stage.calls).toBe(2 + TOKENS);
    expect(faults).toEqual([]);
    await stage.destroy();
  });

  test("where a link between two ends the client carries what went over it, and nobody is replaced", async () => {
    const { stage, at, faults } = await fleet();
    const ids = await answer(stage, PROMPT, TOKENS, (token) => {
      if (token === 9) for (const channel of at("c").pushedOver) channel.close("it broke");
    });
    expect(ids).toEqual(await solo());
    expect(at("c").pushes).toBe(2 + 9);
    expect(at("b").pushes).toBe(2 + TOKENS);
    expect(["a", "b", "c"].map((name) => at(name).stage.calls)).toEqual([2 + TOKENS, 2 + TOKENS, 2 + TOKENS]);
    expect(faults).toEqual([]);
    await stage.destroy();
  });

  test.each([
    ["something else than it says", (values: Float32Array) => (values[3] = (values[3] ?? 0) + 0.5)],
    ["what is no number", (values: Float32Array) => (values[0] = Number.NaN)],
  ])("one that pushes %s changes nothing: the client carries what goes between the two from then on", async (_, change) => {
    const { stage, at, faults } = await fleet();
    at("b").onPush = (frame) => [decodePush(frame).number === 5 ? changed(frame, change) : frame];
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    expect(at("b").pushes).toBe(6);
    expect(at("c").pushes).toBeGreaterThan(TOKENS);
    expect(faults).toEqual([]);
    await stage.destroy();
  });

  test("a push of other rows than the step has is refused, and the step goes on without it", async () => {
    const { stage, at } = await fleet();
    at("c").onPush = (frame) => {
      const push = decodePush(frame);
      return [
        push.number === 4
          ? encodePush({ ...push, hidden: new Tensor(new Float32Array(3 * FAKE.hiddenSize), [3, FAKE.hiddenSize]) })
          : frame,
      ];
    };
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    await stage.destroy();
  });

  test("a member that is not on the path puts nothing into it, though it knows key and number", async () => {
    const { stage, at, faults } = await fleet();
    const stranger = at("a2");
    const forged = at("b").pushedBy(stranger);
    at("b").onPush = (frame) => {
      const push: Push = decodePush(frame);
      const hidden = new Tensor(new Float32Array(FAKE.hiddenSize), [1, FAKE.hiddenSize]);
      // Its own frames come through here too.
      if (push.hidden.data.some((value) => value !== 0))
        for (let ahead = 0; ahead < 3; ahead++) forged.send(encodePush({ key: push.key, number: push.number + ahead, hidden }));
      return [frame];
    };
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    expect(at("b").pushes).toBe(4 * (2 + TOKENS));
    expect(faults).toEqual([]);
    await stage.destroy();
  });

  test("where one cannot reach the next, the client carries it", async () => {
    const network = new Map<string, FakePeer>();
    const [a, b] = [new FakePeer("a", 0, 3).join(network), new FakePeer("b", 3, 6).join(new Map())];
    const stage = await SwarmStage.open({
      ...FAKE,
      plan: () => [a, b].map(({ name, stage: { layers } }) => ({ peer: name, layers })),
      missing: () => [],
      open: async ({ peer }) => (peer === "a" ? a : b).opened(),
    });
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    expect(b.pushes).toBe(0);
    await stage.destroy();
  });

  test("two clients of the same peers do not get one another's rows", async () => {
    const one = await fleet();
    const [a, b, c] = ["a", "b", "c"].map(one.at);
    const two = await SwarmStage.open({
      ...FAKE,
      plan: () => [a, b, c].flatMap((peer) => (peer ? [{ peer: peer.name, layers: peer.stage.layers }] : [])),
      missing: () => [],
      open: async ({ peer }) => one.at(peer).opened(),
    });
    await turns(20);
    const other = PROMPT.map((id) => (id + 5) % FAKE.vocabSize);
    const answers = await Promise.all([answer(one.stage, PROMPT, TOKENS), answer(two, other, TOKENS)]);
    expect(answers).toEqual([await solo(), await answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), other, TOKENS)]);
    expect(c?.pushes).toBe(2 * (2 + TOKENS));
    await one.stage.destroy();
    await two.destroy();
  });
});

describe("inputs that wait", () => {
  const row = (value: number): Tensor => new Tensor(new Float32Array([value, value]), [1, 2]);
  const collect = () => {
    const taken: number[] = [];
    const refused: string[] = [];
    return {
      taken,
      refused,
      waiting: {
        rows: 1,
        take: (hidden: Float32Array) => taken.push(hidden[0] ?? -1),
        refuse: ({ code }: { code: string }) => refused.push(code),
      },
    };
  };

  test("come before or after they are asked for, and are bounded before", () => {
    const inbox = new PushInbox(2, 3);
    const { taken, refused, waiting } = collect();
    for (let number = 0; number < 100; number++) inbox.arrived(number, row(number));
    for (const number of [0, 1, 2, 3, 4]) inbox.take(number, waiting);
    expect(taken).toEqual([0, 1, 2]);
    expect([inbox.isWaiting(2), inbox.isWaiting(3)]).toEqual([false, true]);
    inbox.arrived(4, row(4));
    inbox.cancel(3);
    inbox.arrived(3, row(3));
    expect(taken).toEqual([0, 1, 2, 4]);
    expect(refused).toEqual(["closed"]);
    expect(() => inbox.take(4, waiting)).toThrow("expected more than 4");
    for (let number = 5; number < 69; number++) inbox.take(number, waiting);
    expect(() => inbox.take(69, waiting)).toThrow("64 wait");
    inbox.close();
    expect(refused).toHaveLength(65);
  });

  test("a push has a bound, and what is none ends the link", async () => {
    const hidden = new Tensor(new Float32Array(16 * 7168), [16, 7168]);
    const frame = encodePush({ key: crypto.randomUUID(), number: 0xffffffff, hidden });
    expect(frame.byteLength).toBeLessThanOrEqual(maxPushBytes(16, 7168));
    expect(decodeFrame(frame).method).toBe("push");
    const network = new Map<string, FakePeer>();
    const [a, b] = [new FakePeer("a", 0, 3).join(network), new FakePeer("b", 3, 6).join(network)];
    const channel = b.pushedBy(a);
    channel.send(new Uint8Array(40));
    expect(await channel.closed).toMatch("Cannot read a frame");
  });
});
