/** Peers that leave and say so: their successors go on with what they had, and where that does not come about, everything is as when a peer is lost. */
import type { SequenceSlot, Stage } from "@shoal/model";
import { describe, expect, test } from "vitest";
import { Auditor } from "../src/pipeline/audit.ts";
import type { OpenedHop } from "../src/pipeline/hop.ts";
import type { ObservedStep } from "../src/pipeline/step.ts";
import type { SwarmStageOptions } from "../src/pipeline/swarmStage.ts";
import { draftedAnswers } from "./draftedAnswers.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { type FakeNetwork, FakePeer } from "./fakePeer.ts";
import { type Fleet, fleetOf } from "./fleet.ts";
import type { SimulatedClock } from "./simulatedClock.ts";

const PROMPT = Array.from({ length: 40 }, (_, index) => (index * 31) % FAKE.vocabSize);
const TOKENS = 30;
const solo = (prompt = PROMPT, count = TOKENS) => answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), prompt, count);

/** Two of each half; `a` and `c` are on the path, `b` and `d` their successors. */
function four(): [FakePeer, FakePeer, FakePeer, FakePeer] {
  return [new FakePeer("a", 0, 3, 1), new FakePeer("b", 0, 3, 50), new FakePeer("c", 3, 6, 1), new FakePeer("d", 3, 6, 50)];
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** As long as tests wait for what a look at who leaves sets off. */
async function looked(clock: SimulatedClock, count = 60): Promise<void> {
  await clock.advance(300);
  await turns(count);
}

describe.each(["relay", "push"] as const)("a peer that leaves, on a path that %s", (way) => {
  const fleet = (peers: FakePeer[], more: Partial<SwarmStageOptions> = {}): Promise<Fleet> => {
    const network: FakeNetwork = new Map();
    if (way === "push") for (const peer of peers) peer.join(network);
    return fleetOf(peers, more);
  };

  test.each([0, 2])("hands over in the middle of an answer: its successor computes no row again, and no token changes", async (place) => {
    const peers = four();
    const handovers: string[] = [];
    const { stage, clock, faults } = await fleet(peers, { onHandover: (peer, successor) => handovers.push(`${peer} to ${successor}`) });
    const [leaver, successor] = [peers[place], peers[place + 1]];
    const ids = await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 9) leaver?.leave();
      if (token >= 9 && stage.handedOver === 0) await looked(clock, 30);
      if (token === 20) leaver?.kill();
    });
    expect(ids).toEqual(await solo());
    expect(faults).toEqual([]);
    expect(handovers).toEqual([`${leaver?.name} to ${successor?.name}`]);
    expect([stage.handedOver, stage.replaced]).toEqual([1, 0]);
    expect(stage.path.map(({ peer }) => peer)).toEqual(place === 0 ? ["b", "c"] : ["a", "d"]);
    // Every position was computed once, by one of the two.
    const rows = PROMPT.length + TOKENS;
    expect((leaver?.stage.rows ?? 0) + (successor?.stage.rows ?? 0)).toBe(rows);
    expect(successor?.stage.imported).toBe(leaver?.stage.rows);
    expect(successor?.stage.openSequences).toBe(0);
    await stage.destroy();
  });

  test("hands over before the answer ends, also where tokens come faster than rows travel", async () => {
    const peers = four();
    const { stage, clock, faults } = await fleet(peers);
    const exportKv = peers[0].stage.exportKv.bind(peers[0].stage);
    const tokens: number[] = [];
    peers[0].stage.exportKv = async (sequence, range) => {
      const rows = await exportKv(sequence, range);
      // Two tokens at least, unless the conversations stand still.
      const until = tokens.length + 2;
      for (let turn = 0; turn < 100 && tokens.length < until; turn++) await turns(1);
      return rows;
    };
    const handedOverBefore: number[] = [];
    const ids = await answer(stage, PROMPT, 60, async (token) => {
      tokens.push(token);
      if (token === 9) {
        peers[0].leave();
        await clock.advance(300);
      }
      await turns(2);
      if (stage.handedOver === 1) handedOverBefore.push(token);
    });
    expect(ids).toEqual(await solo(PROMPT, 60));
    expect(faults).toEqual([]);
    expect(handedOverBefore[0]).toBeLessThan(30);
    expect(peers[0].stage.rows + peers[1].stage.rows).toBe(PROMPT.length + 60);
    await stage.destroy();
  });

  test("hands over eight conversations, with what is cut off, opened and closed meanwhile", async () => {
    const prompts = Array.from({ length: 8 }, (_, n) =>
      Array.from({ length: 5 + 9 * n }, (_, index) => (index * 7 + n * 13) % FAKE.vocabSize),
    );
    const peers = four();
    const { stage, clock, faults } = await fleet(peers);
    const one = async (prompt: readonly number[], n: number): Promise<readonly number[]> => {
      await turns(7 * n);
      // Some are short, and others come after them.
      const first = await answer(stage, prompt, n % 2 === 0 ? TOKENS : 6, async () => turns(1 + (n % 3)));
      return n % 2 === 0 ? first : [...first, ...(await answer(stage, prompt.toReversed(), TOKENS))];
    };
    const leaving = (async () => {
      await turns(120);
      peers[0].leave();
      peers[2].leave();
      while (stage.handedOver < 2) {
        // Slowly: digests are another thread's work, which takes turns that the clock knows nothing of.
        await clock.advance(10);
        await turns(2);
      }
    })();
    const answers = await Promise.all(prompts.map(one));
    await leaving;
    const expected = await Promise.all(
      prompts.map(async (prompt, n) =>
        n % 2 === 0 ? solo(prompt) : [...(await solo(prompt, 6)), ...(await solo(prompt.toReversed(), TOKENS))],
      ),
    );
    expect(answers).toEqual(expected);
    expect(faults).toEqual([]);
    expect([stage.handedOver, stage.replaced]).toEqual([2, 0]);
    const [a, b] = peers;
    // Whatever was moved twice had been cut off or grown meanwhile: nothing was computed twice.
    const computed = prompts.reduce((sum, { length }, n) => sum + length + (n % 2 === 0 ? TOKENS : 6 + length + TOKENS), 0);
    expect(a.stage.rows + b.stage.rows).toBe(computed);
    expect(b.stage.openSequences).toBe(0);
    await stage.destroy();
  }, 30_000);

  test("what is cut off and grows again while rows are on their way is moved as it is then", async () => {
    const peers = four();
    const { stage, clock } = await fleet(peers);
    const run = async (on: Stage, between: () => Promise<void>): Promise<unknown> => {
      const sequence: SequenceSlot = await on.open();
      const step = async (tokens: readonly number[]): Promise<number | undefined> => {
        const { step: number } = await on.forward({ entries: [{ sequence, tokens }], output: "sample" });
        return (await on.sampled(number, 1))[0]?.[0];
      };
      for (let at = 0; at < PROMPT.length; at += 10) await step(PROMPT.slice(at, at + 10));
      await between();
      await on.truncate(sequence, 12);
      for (let at = 20; at < PROMPT.length; at += 10) await step(PROMPT.slice(at, at + 10));
      await step([1, 2, 3, 4, 5, 6, 7, 8]);
      await between();
      return step([7]);
    };
    // A round brings rows, and finds that they have been cut off before it is done.
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const exportKv = peers[0].stage.exportKv.bind(peers[0].stage);
    peers[0].stage.exportKv = async (sequence, range) => {
      const rows = await exportKv(sequence, range);
      await held;
      return rows;
    };
    let times = 0;
    const actual = await run(stage, async () => {
      if (times++ === 0) {
        peers[0].leave();
        await looked(clock);
      } else {
        release();
        await turns(60);
      }
    });
    expect(actual).toEqual(await run(new FakeStage({ begin: 0, end: FAKE.nLayers }), async () => {}));
    expect(stage.handedOver).toBe(1);
    expect(peers[1].stage.imported).toBeGreaterThan(40);
    expect(peers[1].stage.rows).toBe(1);
    await stage.destroy();
  });

  test("with drafts: the rows of its MTP module go with the others, where the successor has one", async () => {
    for (const successorDrafts of [true, false]) {
      const expected = await solo(PROMPT, 40);
      const peers = four();
      const guess = (position: number): number => ([...PROMPT, ...expected][position] ?? 0) + (position % 3 === 0 ? 1 : 0);
      peers[2].stage.oracle = (position) => guess(position) % FAKE.vocabSize;
      if (successorDrafts) peers[3].stage.oracle = peers[2].stage.oracle;
      const { stage, clock, faults } = await fleet(peers);
      const { ids } = await draftedAnswers(stage, [PROMPT], 40, 2, async (so) => {
        if (so.length <= 8) return;
        peers[2].leave();
        if (so.length < 30) await looked(clock, 10);
      });
      expect(ids).toEqual([expected]);
      expect(faults).toEqual([]);
      expect(stage.handedOver).toBe(1);
      await stage.destroy();
    }
  });

  test.each(["nan", "short", "refuses", "stalls"] as const)("whose rows are %s is replaced as if it were lost", async (fault) => {
    const peers = four();
    const { stage, clock, faults } = await fleet(peers);
    peers[0].stage.kvFault = fault;
    const ids = await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 9) peers[0].leave();
      if (token >= 9 && token < 15) await looked(clock);
      if (token === 20) peers[0].kill();
    });
    expect(ids).toEqual(await solo());
    const lied = fault === "nan" || fault === "short" ? [{ peer: "a", fault: "lied" }] : [];
    expect(faults).toEqual([...lied, { peer: "a", fault: "lost" }]);
    expect([stage.handedOver, stage.replaced]).toEqual([0, 1]);
    expect(peers[0].stage.exports).toBe(1);
    expect(peers[1].stage.imported).toBe(0);
    // Everything again, but for what it computes of the answer's end.
    expect(peers[1].stage.rows).toBe(PROMPT.length + TOKENS);
    await stage.destroy();
  });

  test("that is too slow with the last rows is not waited for any longer", async () => {
    const peers = four();
    const { stage, clock, faults } = await fleet(peers);
    // All but the last rows are on their way while two tokens are computed.
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const exportKv = peers[0].stage.exportKv.bind(peers[0].stage);
    peers[0].stage.exportKv = async (sequence, range) => {
      const rows = await exportKv(sequence, range);
      await (range?.first === 0 ? held : new Promise((resolve) => clock.after(5000, () => resolve(undefined))));
      return rows;
    };
    let ticking: ReturnType<typeof setInterval> | undefined;
    let began = 0;
    const prompt = PROMPT.slice(0, 10);
    const ids = await answer(stage, prompt, TOKENS, async (token) => {
      if (token === 9) {
        peers[0].leave();
        await looked(clock);
      }
      if (token === 11) {
        release();
        began = clock.now();
        ticking = setInterval(() => void clock.advance(50), 1);
      }
      if (token === 13) expect(clock.now() - began).toBeLessThan(4000);
      await turns(2);
    });
    clearInterval(ticking);
    expect(ids).toEqual(await solo(prompt));
    expect(peers[0].stage.exports).toBe(2);
    expect([stage.handedOver, stage.replaced, faults.length]).toEqual([0, 0, 0]);
    await stage.destroy();
  });

  test("and dies while it hands over is lost like any other", async () => {
    const peers = four();
    const { stage, clock, faults } = await fleet(peers);
    const exportKv = peers[0].stage.exportKv.bind(peers[0].stage);
    peers[0].stage.exportKv = async (sequence, range) => {
      peers[0].kill();
      return exportKv(sequence, range);
    };
    const ids = await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 9) {
        peers[0].leave();
        await looked(clock);
      }
    });
    expect(ids).toEqual(await solo());
    expect(faults).toEqual([{ peer: "a", fault: "lost" }]);
    expect([stage.handedOver, stage.replaced]).toEqual([0, 1]);
    await stage.destroy();
  });

  test("has one that has no room passed over, and another take over", async () => {
    const peers = [...four(), new FakePeer("e", 0, 3, 90)];
    const [a, b] = peers;
    if (b) b.stage.room = 0;
    const { stage, clock, faults } = await fleet(peers);
    const ids = await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 5) a?.leave();
      if (token > 5 && token < 15) await looked(clock);
    });
    expect(ids).toEqual(await solo());
    expect(stage.path.map(({ peer }) => peer)).toEqual(["e", "c"]);
    expect([stage.handedOver, faults.length]).toEqual([1, 0]);
    await stage.destroy();
  });

  test("whose rows are wrong and could be true: the successor is not called a liar, and computes them again", async () => {
    const peers = [...four(), new FakePeer("e", 0, 3, 70), new FakePeer("f", 0, 3, 80)];
    const liars: string[] = [];
    const audited: string[] = [];
    const open = async ({ peer }: { readonly peer: string }): Promise<OpenedHop> => {
      const found = peers.find(({ name }) => name === peer);
      if (!found) throw new Error("no such peer");
      return found.opened();
    };
    const auditor = new Auditor({
      ...FAKE,
      open,
      share: 0,
      others: ({ layers }) => ["e", "f"].map((peer) => ({ peer, layers })),
      onLiar: (peer) => liars.push(peer),
    });
    const steps: ObservedStep[] = [];
    const { stage, clock, faults } = await fleet(peers, { open, onStep: (step) => steps.push({ ...step, inputs: [...step.inputs] }) });
    const [a] = peers;
    if (a) a.stage.kvFault = "lies";
    await answer(stage, PROMPT, TOKENS, async (token) => {
      if (token === 9) a?.leave();
      if (token >= 9 && token < 15) await looked(clock, 20);
      const observed = steps.findLast(({ hop }) => hop.peer === "b");
      if (token === 20 && observed) audited.push((await auditor.audit(observed)).verdict);
    });
    expect(stage.handedOver).toBe(1);
    expect(audited).toEqual(["doubted"]);
    expect(liars).toEqual([]);
    expect(faults).toEqual([{ peer: "b", fault: "doubted" }]);
    expect(stage.path.map(({ peer }) => peer)).toEqual(["e", "c"]);
    // What follows is what one device says.
    expect(await answer(stage, PROMPT, TOKENS)).toEqual(await solo());
    await stage.destroy();
  });
});
