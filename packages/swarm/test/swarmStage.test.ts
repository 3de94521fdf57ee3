import type { SequenceSlot, Stage } from "@shoal/model";
import { type MockInstance, describe, expect, test, vi } from "vitest";
import type { OpenedHop } from "../src/pipeline/hop.ts";
import { Auditor } from "../src/pipeline/audit.ts";
import type { SwarmStageOptions } from "../src/pipeline/swarmStage.ts";
import { FAKE, FakeStage, answer } from "./fakeModel.ts";
import { type FakeNetwork, FakePeer } from "./fakePeer.ts";
import { type Fleet, fleetOf } from "./fleet.ts";
import { SimulatedClock } from "./simulatedClock.ts";

const PROMPT = Array.from({ length: 40 }, (_, index) => (index * 31) % FAKE.vocabSize);
const solo = (prompt = PROMPT, count = 30) => answer(new FakeStage({ begin: 0, end: FAKE.nLayers }), prompt, count);

describe.each(["relay", "push"] as const)("a stage of many peers that %s", (way) => {
  const fleet = (peers: FakePeer[], more: Partial<SwarmStageOptions> = {}): Promise<Fleet> => {
    const network: FakeNetwork = new Map();
    if (way === "push") for (const peer of peers) peer.join(network);
    return fleetOf(peers, more);
  };

  test("gives what one device gives, over any path", async () => {
    const expected = await solo();
    expect(new Set(expected).size).toBeGreaterThan(15);
    for (const cuts of [[6], [3, 6], [1, 2, 3, 4, 5, 6], [2, 5, 6]]) {
      const peers = cuts.map((end, index) => new FakePeer(`p${index}`, index === 0 ? 0 : (cuts[index - 1] ?? 0), end));
      const { stage } = await fleet(peers);
      expect(await answer(stage, PROMPT, 30)).toEqual(expected);
      expect(peers.map((peer) => peer.stage.openSequences)).toEqual(peers.map(() => 0));
      await stage.destroy();
    }
  });

  test("tells of tokens that are known to follow, and goes on with the one that is chosen", async () => {
    const { stage } = await fleet([new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)]);
    const steps = async (on: Stage): Promise<unknown> => {
      const sequences = [await on.open(), await on.open()] as const;
      const [tokens, followedBy] = [PROMPT.slice(0, 5), PROMPT.slice(1, 5)];
      const first = await on.forward({
        entries: [
          { sequence: sequences[0], tokens, followedBy },
          { sequence: sequences[1], tokens, followedBy, quiet: true },
        ],
        output: "sample",
      });
      const told = await on.sampled(first.step, 1);
      expect(told[0]).toEqual([...followedBy, expect.any(Number), ...followedBy]);
      const next = on instanceof FakeStage ? [told[0]?.[4] ?? -1] : "sampled";
      const second = await on.forward({ entries: [{ sequence: sequences[0], tokens: next }], output: "sample" });
      return [told, await on.sampled(second.step, 1)];
    };
    expect(await steps(stage)).toEqual(await steps(new FakeStage({ begin: 0, end: FAKE.nLayers })));
    await stage.destroy();
  });

  test("a peer killed after any token is replaced alone, and no token changes", async () => {
    const expected = await solo();
    for (let at = 0; at < 30; at += 3)
      for (const victim of [0, 1, 2]) {
        const peers = [0, 1, 2].flatMap((part) =>
          ["a", "b"].map((name) => new FakePeer(`${part}${name}`, part * 2, part * 2 + 2, name === "a" ? 5 : 50)),
        );
        const { stage, faults } = await fleet(peers);
        const calls = () => peers.map((peer) => peer.stage.calls);
        let before: number[] = [];
        const ids = await answer(stage, PROMPT, 30, (token) => {
          if (token !== at) return;
          before = calls();
          peers[2 * victim]?.kill();
        });
        expect(ids).toEqual(expected);
        expect(faults.map(({ peer }) => peer)).toEqual([`${victim}a`]);
        expect(stage.path.map(({ peer }) => peer)).toEqual([0, 1, 2].map((part) => `${part}${part === victim ? "b" : "a"}`));
        // The others computed one row a token and nothing again.
        for (const part of [0, 1, 2]) if (part !== victim) expect((calls()[2 * part] ?? 0) - (before[2 * part] ?? 0)).toBe(30 - at);
        await stage.destroy();
      }
  });

  test("peers killed at random moments, several at once, of eight conversations: all answers are those of one device", async () => {
    let state = 3;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const prompts = Array.from({ length: 8 }, (_, n) =>
      Array.from({ length: 5 + 4 * n }, (_, index) => (index * 7 + n * 13) % FAKE.vocabSize),
    );
    const expected = await Promise.all(prompts.map((prompt) => solo(prompt, 25)));
    for (let round = 0; round < 6; round++) {
      const cuts = [
        [0, 2],
        [2, 4],
        [4, 6],
        [0, 3],
        [3, 6],
        [0, 6],
      ] as const;
      const peers = cuts.flatMap(([begin, end]) =>
        Array.from({ length: 4 }, (_, copy) => new FakePeer(`${begin}-${end}-${copy}`, begin, end, 1 + random(30))),
      );
      const { stage } = await fleet(peers);
      const running = { killing: true };
      const killing = (async () => {
        for (let i = 0; i < 10 && running.killing; i++) {
          for (let turns = random(50); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
          const used = stage.path[random(stage.path.length)];
          const alive = peers.filter(({ dead }) => !dead);
          if (alive.length > 12) alive.find(({ known }) => known.peer === used?.peer)?.kill();
        }
      })();
      const answers = await Promise.all(prompts.map((prompt) => answer(stage, prompt, 25)));
      running.killing = false;
      await killing;
      expect(answers).toEqual(expected);
      expect(stage.historyBytes).toBe(0);
      expect(stage.replaced).toBeGreaterThan(0);
      const used = new Set(stage.path.map(({ peer }) => peer));
      const open = peers.filter(({ name, dead, stage: { openSequences } }) => !dead && used.has(name) && openSequences > 0);
      expect(open.map(({ name }) => name)).toEqual([]);
      await stage.destroy();
    }
  });

  test("one that stalls without dying is replaced", async () => {
    const peers = [new FakePeer("a", 0, 3, 1), new FakePeer("b", 0, 3, 50), new FakePeer("c", 3, 6)];
    const { stage, clock, faults } = await fleet(peers, { stallMs: 2000 });
    const expected = await solo();
    const answering = answer(stage, PROMPT, 30, (token) => {
      const [first] = peers;
      if (token === 10 && first) first.stage.fault = "stalls";
    });
    const ticking = setInterval(() => void clock.advance(100), 5);
    expect(await answering).toEqual(expected);
    clearInterval(ticking);
    expect(faults).toEqual([{ peer: "a", fault: "stalled" }]);
    await stage.destroy();
  });

  test("one that is slow is waited for where nobody else has its layers, four times as long", async () => {
    const [only, other] = [new FakePeer("a", 0, 3), new FakePeer("c", 3, 6)];
    const { stage, clock, faults } = await fleet([only, other], { stallMs: 2000 });
    only.stage.fault = "stalls";
    const answering = answer(stage, PROMPT, 30);
    answering.catch(() => {});
    while (only.stage.calls === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(7900);
    expect(faults).toEqual([]);
    await clock.advance(300);
    expect(faults).toEqual([{ peer: "a", fault: "stalled" }]);
    await stage.destroy();
  });

  test("one that has fallen silent is not waited for where others have its layers, and waited for where nobody has", async () => {
    const [first, second, only] = [new FakePeer("a", 0, 3, 1), new FakePeer("b", 0, 3, 50), new FakePeer("c", 3, 6)];
    const { stage, clock, faults } = await fleet([first, second, only]);
    const ticking = setInterval(() => void clock.advance(50), 1);
    const ids = await answer(stage, PROMPT, 30, (token) => {
      // The one whose layers nobody else has answers slowly, and all the same.
      only.silentMs = token === 5 ? 1100 : 0;
      if (token === 10) [first.silentMs, first.stage.fault] = [1100, "stalls"];
    });
    clearInterval(ticking);
    expect(ids).toEqual(await solo());
    expect(faults).toEqual([{ peer: "a", fault: "lost" }]);
    expect(clock.now()).toBeLessThan(15_000);
    await stage.destroy();
  });

  test("one that has no room is passed over for another, and waited for where there is none", async () => {
    const [first, second, full, last] = [
      new FakePeer("a", 0, 3, 1),
      new FakePeer("b", 0, 3, 20),
      new FakePeer("c", 0, 3, 10),
      new FakePeer("d", 3, 6),
    ];
    full.stage.room = 0;
    const { stage, clock, faults } = await fleet([first, second, full, last]);
    const ticking = setInterval(() => void clock.advance(50), 1);
    const ids = await answer(stage, PROMPT, 30, (token) => {
      if (token === 5) first.kill();
      if (token !== 15) return;
      second.kill();
      clock.after(3000, () => (full.stage.room = 16));
    });
    clearInterval(ticking);
    expect(ids).toEqual(await solo());
    expect(faults.slice(0, 3)).toEqual([
      { peer: "a", fault: "lost" },
      { peer: "c", fault: "full" },
      { peer: "b", fault: "lost" },
    ]);
    expect(stage.path.map(({ peer }) => peer)).toEqual(["c", "d"]);
    await stage.destroy();
  });

  test.each(["nan", "short"] as const)("one whose answers are %s is found out at once and replaced", async (fault) => {
    for (const victim of [0, 2]) {
      const peers = [new FakePeer("a", 0, 3, 1), new FakePeer("b", 0, 3, 50), new FakePeer("c", 3, 6, 1), new FakePeer("d", 3, 6, 50)];
      const { stage, faults } = await fleet(peers);
      const ids = await answer(stage, PROMPT, 30, (token) => {
        const peer = peers[victim];
        if (token === 7 && peer) peer.stage.fault = fault;
      });
      expect(ids).toEqual(await solo());
      expect(faults).toEqual([{ peer: peers[victim]?.known.peer, fault: "lied" }]);
      await stage.destroy();
    }
  });

  test.each(["few logprobs", "unlikely logprobs", "foreign logprobs"] as const)(
    "one that gives %s is found out at once and replaced",
    async (fault) => {
      const peers = [new FakePeer("a", 0, 6, 1), new FakePeer("b", 0, 6, 50)];
      const { stage, faults } = await fleet(peers);
      if (peers[0]) peers[0].stage.fault = fault;
      const sequence = await stage.open();
      const tokens = PROMPT.slice(0, 3);
      const { step } = await stage.forward({
        entries: [{ sequence, tokens, followedBy: PROMPT.slice(1, 3) }],
        output: "sample",
        logprobs: true,
      });
      const [logprobs = []] = await stage.logprobs(step, 1);
      expect(faults).toEqual([{ peer: "a", fault: "lied" }]);
      expect(logprobs.map(({ top }) => top.map(({ id }) => id))).toEqual((await stage.sampled(step, 1))[0]?.map((id) => [id]));
      await stage.destroy();
    },
  );

  test("one that lies so that it could be true is found out by audits, and gets nothing to compute any more", async () => {
    const peers = ["a", "b", "c"].map((name, index) => new FakePeer(name, 0, 3, 1 + index)).concat(new FakePeer("d", 3, 6));
    const banned = new Set<string>();
    const open = async ({ peer }: { readonly peer: string }): Promise<OpenedHop> => {
      const found = peers.find(({ known }) => known.peer === peer);
      if (!found || banned.has(peer)) throw new Error("no such peer");
      return found.opened();
    };
    const auditor = new Auditor({
      ...FAKE,
      open,
      share: 1,
      others: ({ layers }) =>
        peers.map(({ known }) => ({ peer: known.peer, layers: known.layers ?? layers })).filter((hop) => hop.layers.begin === layers.begin),
      onLiar: (peer) => {
        banned.add(peer);
        peers.find(({ known }) => known.peer === peer)?.kill();
      },
    });
    const { stage } = await fleet(peers, { open, onStep: auditor.observe });
    const [liar] = peers;
    await answer(stage, PROMPT, 30, async (token) => {
      if (token === 5 && liar) liar.stage.fault = "lies";
      // Audits run beside the answer: a token takes longer than this.
      for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    });
    expect([...banned]).toEqual(["a"]);
    expect(stage.path.map(({ peer }) => peer)).toEqual(["b", "d"]);
    expect(await answer(stage, PROMPT, 30)).toEqual(await solo());
    await stage.destroy();
  });

  test("layers that nobody else has alone are taken over together with their neighbours'", async () => {
    const peers = [
      new FakePeer("a", 0, 2, 1),
      new FakePeer("b", 2, 4, 1),
      new FakePeer("c", 4, 6, 1),
      new FakePeer("d", 0, 4, 90),
      new FakePeer("e", 1, 6),
    ];
    const { stage } = await fleet(peers);
    const ids = await answer(stage, PROMPT, 30, (token) => {
      if (token === 12) peers[1]?.kill();
    });
    expect(ids).toEqual(await solo());
    expect(stage.path.map(({ peer }) => peer)).toEqual(["d", "c"]);
    await stage.destroy();
  });

  test("a step waits for whoever comes, and fails by name if nobody does", async () => {
    const peers = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    const { stage, clock } = await fleet(peers, { patienceMs: 5000 });
    const ticking = setInterval(() => void clock.advance(200), 5);
    const ids = await answer(stage, PROMPT, 30, (token) => {
      if (token !== 5) return;
      peers[1]?.kill();
      clock.after(2000, () => peers.push(new FakePeer("late", 3, 6)));
    });
    expect(ids).toEqual(await solo());
    await expect(answer(stage, PROMPT, 30, (token) => (token === 5 ? peers[2]?.kill() : undefined))).rejects.toMatchObject({
      code: "incomplete",
    });
    clearInterval(ticking);
    await stage.destroy();
  });

  test("a path that is missing a part: what is waited for is said soon, and the error at the end names it", async () => {
    const waits: string[] = [];
    const clock = new SimulatedClock();
    const opening = fleet([new FakePeer("a", 0, 2), new FakePeer("b", 4, 6)], {
      clock,
      patienceMs: 10_000,
      onWait: (what) => waits.push(what),
    });
    const failed = expect(opening).rejects.toMatchObject({
      code: "incomplete",
      field: "layers",
      actual: [{ begin: 2, end: 4 }],
      message: "Cannot compute: no peer holds layers 2 to 3 of 6",
    });
    await clock.advance(2000);
    expect(waits).toEqual([]);
    await clock.advance(1000);
    expect(waits).toEqual(["no peer holds layers 2 to 3 of 6"]);
    await clock.advance(8000);
    await failed;
    expect(waits).toHaveLength(1);
  });

  test("a step that is refused leaves every stage as it was", async () => {
    const peers = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    const { stage } = await fleet(peers);
    const sequence = await stage.open();
    await stage.forward({ entries: [{ sequence, tokens: [1, 2, 3] }], output: "sample" });
    await expect(stage.forward({ entries: [{ sequence, tokens: [500] }], output: "sample" })).rejects.toMatchObject({ code: "bad-batch" });
    const { step } = await stage.forward({ entries: [{ sequence, tokens: [4] }], output: "sample" });
    const reference = new FakeStage({ begin: 0, end: 6 });
    const slot: SequenceSlot = await reference.open();
    const expected = await reference.forward({ entries: [{ sequence: slot, tokens: [1, 2, 3, 4] }], output: "sample" });
    expect(await stage.sampled(step, 1)).toEqual(await reference.sampled(expected.step, 1));
    await stage.destroy();
  });

  test("closed in the middle of a step, nobody is said to be lost", async () => {
    const peers = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    const { stage, faults } = await fleet(peers);
    const sequence = await stage.open();
    const { step } = await stage.forward({ entries: [{ sequence, tokens: [1, 2, 3] }], output: "sample" });
    const told = stage.sampled(step, 1);
    told.catch(() => {});
    await new Promise((resolve) => setImmediate(resolve));
    const closing = stage.destroy();
    for (const peer of peers) peer.kill();
    await closing;
    await expect(told).rejects.toThrow(/closed|Cannot go on/);
    expect(faults).toEqual([]);
  });

  test("what was computed is not kept by whoever waits for a peer to be lost: steps leave nothing behind there", async () => {
    const peers = [new FakePeer("a", 0, 3), new FakePeer("b", 3, 6)];
    const waiting: MockInstance[] = [];
    const open = async ({ peer }: { readonly peer: string }): Promise<OpenedHop> => {
      const found = peers.find(({ name }) => name === peer);
      if (!found) throw new Error("no such peer");
      const opened = found.opened();
      const lost = opened.lost.then((reason) => reason);
      // Whatever is to be called when it settles is kept until then.
      waiting.push(vi.spyOn(lost, "then"));
      return { ...opened, lost };
    };
    const { stage } = await fleet(peers, { open });
    const count = (): number => waiting.reduce((sum, { mock }) => sum + mock.calls.length, 0);
    const before = count();
    expect(before).toBeGreaterThan(0);
    await answer(stage, PROMPT, 30);
    expect(count()).toBe(before);
    await stage.destroy();
  });
});
