/** The engine among requests that follow a grammar: their masks come late, begin in the middle, and nobody else's tokens change. */
import { describe, expect, it } from "vitest";
import { FakePagedStage, type FakePagedStageOptions, allows, firstAllowed } from "../../test/fakePagedStage.ts";
import { Engine, type EngineOptions } from "../engine.ts";
import { EngineError } from "../errors.ts";
import type { EngineRequest, RunningRequest } from "../request.ts";
import { GREEDY } from "../sampling.ts";
import type { ConstraintSource, OutputConstraint, TokenConstraint } from "./grammar.ts";

const STOP = 999;
const VOCAB = 1000;

function rule(ids: readonly number[]): number {
  let hash = 7;
  for (const id of ids) hash = (Math.imul(hash, 31) + id + 1) >>> 0;
  return hash % 23 === 0 ? STOP : hash % 900;
}

/** A grammar of `text` k: the n-th token since it holds has the remainder (n + k) modulo 5, or, from k = 5 on, any other; it may end from the 6th on. */
function maskOf(k: number, count: number): Uint32Array<ArrayBuffer> {
  const mask = new Uint32Array(Math.ceil(VOCAB / 32));
  for (let id = 0; id < VOCAB; id++) {
    const allowed = id === STOP ? count >= 6 : id < 900 && (id % 5 === (count + k) % 5) === k < 5;
    if (allowed) mask[id >>> 5] = (mask[id >>> 5] ?? 0) | (1 << (id & 31));
  }
  return mask;
}

/** `after` holds numbers: it begins behind the first token that each divides. */
function constraint(k: number, ...after: number[]): OutputConstraint {
  return { grammar: { kind: "text", text: String(k) }, after: after.map(String) };
}

function kOf({ grammar }: OutputConstraint): number {
  return grammar.kind === "text" ? Number(grammar.text) : 0;
}

/** Masks that take `wait`. */
function constraints(wait: () => Promise<void>, opened: Set<object> = new Set()): ConstraintSource {
  return {
    open: (constraint, { onMask, onError }): TokenConstraint => {
      const k = kOf(constraint);
      if (k === 13) throw new EngineError("bad-request", "Cannot follow the grammar: it is 13", { field: "constraint" });
      if (k === 14)
        setTimeout(() => onError(new EngineError("bad-request", "Cannot follow the grammar: it is 14", { field: "constraint" })), 3);
      const after = (constraint.after ?? []).map(Number);
      const handle = {};
      opened.add(handle);
      let count = 0;
      let asked = 0;
      let mask: Uint32Array<ArrayBuffer> | undefined;
      let ahead: Uint32Array<ArrayBuffer>[] | undefined;
      const ask = (): void => {
        asked = count;
        void wait().then(() => {
          if (asked !== count || k === 14) return;
          mask = maskOf(k, count);
          onMask();
        });
      };
      const lookAhead = (ids: readonly number[]): void => {
        if (asked !== count) throw new Error("looks ahead of tokens that were not prepared");
        const before = count;
        void wait().then(() => {
          if (before !== count) return;
          const refused = ids.findIndex((id, index) => id === STOP || !allows(maskOf(k, count + index), id));
          ahead = ids.slice(0, refused < 0 ? ids.length : refused).map((_, index) => maskOf(k, count + index + 1));
          onMask();
        });
      };
      ask();
      return {
        get binding() {
          return after.length === 0;
        },
        get mask() {
          return mask;
        },
        accept: (id) => {
          const [divisor] = after;
          if (divisor === undefined) {
            count++;
            mask = undefined;
            ahead = undefined;
          } else if (id % divisor === 0) after.shift();
        },
        prepare: () => {
          if (asked !== count) ask();
        },
        lookAhead,
        get ahead() {
          return ahead;
        },
        close: () => void opened.delete(handle),
      };
    },
  };
}

/** What a request gets alone, by the rule and the grammar. */
function expected({ promptIds, maxNewTokens, stopTokenIds, constraint }: EngineRequest, contextTokens: number): number[] {
  const ids = [...promptIds];
  const after = (constraint?.after ?? []).map(Number);
  let count = 0;
  while (ids.length - promptIds.length < Math.min(maxNewTokens, contextTokens - promptIds.length + 1)) {
    const bound = constraint !== undefined && after.length === 0;
    const next = firstAllowed(rule(ids), bound ? maskOf(kOf(constraint), count) : undefined);
    if (stopTokenIds.includes(next)) break;
    ids.push(next);
    if (bound) count++;
    else if (after[0] !== undefined && next % after[0] === 0) after.shift();
  }
  return ids.slice(promptIds.length);
}

function range(begin: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => (begin + index) % 900);
}

function request(promptIds: readonly number[], more: Partial<EngineRequest> = {}): EngineRequest {
  return { promptIds, maxNewTokens: 40, sampling: GREEDY, stopTokenIds: [STOP], ...more };
}

async function collect(running: RunningRequest): Promise<number[]> {
  const ids: number[] = [];
  for await (const tokens of running) ids.push(...tokens.map(({ id }) => id));
  return ids;
}

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

async function withEngine(
  stageOptions: Partial<FakePagedStageOptions>,
  use: (engine: Engine, stage: FakePagedStage) => Promise<void>,
  options: EngineOptions = {},
): Promise<void> {
  const stage = new FakePagedStage({ maxSequences: 4, blocks: 40, blockSize: 4, contextTokens: 64, maxTokens: 16, rule, ...stageOptions });
  const opened = new Set<object>();
  const engine = await Engine.open(stage, { constraints: constraints(soon, opened), ...options });
  await use(engine, stage);
  expect(engine.status().running + engine.status().waiting).toBe(0);
  await engine.close();
  expect(stage.openSequences).toBe(0);
  expect(stage.freeBlocks).toBe(stageOptions.blocks ?? 40);
  expect(opened.size).toBe(0);
}

describe("Engine, of requests with a constraint", () => {
  it("chooses each token among those of its mask, beside free requests", () =>
    withEngine({}, async (engine) => {
      const wishes = [
        request(range(1, 9), { constraint: constraint(0) }),
        request(range(40, 3)),
        request(range(60, 21), { constraint: constraint(3), stopTokenIds: [] }),
        request(range(7, 1), { constraint: constraint(1) }),
        request(range(99, 5)),
      ];
      const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
      expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
    }));

  it("lets a grammar begin in the middle: what was computed ahead of it is dropped and computed again", () =>
    withEngine({ beforeRead: soon }, async (engine, stage) => {
      const wishes = [
        request(range(1, 9), { constraint: constraint(2, 3), stopTokenIds: [] }),
        request(range(20, 9), { constraint: constraint(2, 7, 4) }),
      ];
      for (const wish of wishes) {
        const begin = stage.steps.length;
        const ids = await collect(engine.submit(wish));
        expect(ids).toEqual(expected(wish, 64));
        expect(stage.steps.length - begin).toBeGreaterThan(ids.length - 1);
      }
    }));

  it("does not slow free requests down: their steps are read many at a time, as without it", () =>
    withEngine(
      { contextTokens: 400, blocks: 250, beforeRead: () => new Promise((resolve) => setTimeout(resolve, 8)) },
      async (engine, stage) => {
        const free = request(range(1, 5), { maxNewTokens: 200, stopTokenIds: [] });
        const bound = request(range(50, 5), { maxNewTokens: 150, stopTokenIds: [], constraint: constraint(1) });
        const other = engine.submit(bound);
        expect(await collect(engine.submit(free))).toEqual(expected(free, 400));
        // Readings are slow here, and so there are many steps in one, the one with a mask being the last.
        const { masked, readings } = stage;
        expect(masked.size).toBeGreaterThan(3);
        expect(readings.some(({ count }) => count > 1)).toBe(true);
        for (const { first, count } of readings)
          for (let step = first; step < first + count - 1; step++) expect(masked.has(step)).toBe(false);
        expect(await collect(other)).toEqual(expected(bound, 400));
      },
    ));

  it("verifies drafts under the masks of their places, and has the same answer in fewer steps", async () => {
    for (const least of [1, 2, 3])
      await withEngine(
        { mistaken: (ids) => ids.length % 7 === 0, maxOutputs: 8, beforeRead: soon },
        async (engine, stage) => {
          const wish = request(range(1, 9), { constraint: constraint(7), stopTokenIds: [] });
          const ids = await collect(engine.submit(wish));
          expect(ids).toEqual(expected(wish, 64));
          // Of the rule's tokens, four of five are in the grammar; and of what follows one that is not, its first draft is made after it.
          expect(stage.verified.get(0)).toBeGreaterThan(10);
          expect(stage.steps.length).toBeLessThan(ids.length - 8);
        },
        { drafts: { least, most: least } },
      );
  });

  it("verifies no draft that the grammar refuses, nor one for a request with penalties", () =>
    withEngine(
      { mistaken: () => false, maxOutputs: 8 },
      async (engine, stage) => {
        const wishes = [
          // One in five of the rule's tokens is in the grammar, and so of its drafts.
          request([1], { constraint: constraint(2), stopTokenIds: [] }),
          request([2], {
            constraint: constraint(6),
            stopTokenIds: [],
            sampling: { ...GREEDY, frequencyPenalty: 0.5 },
          }),
        ];
        const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
        expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
        expect(stage.drafts.length).toBeGreaterThan(20);
        expect(stage.verified.get(0)).toBeLessThan(20);
        expect(stage.verified.has(1)).toBe(false);
      },
      { drafts: { least: 1 } },
    ));

  it("keeps drafting for free requests beside bound ones, and for those where a grammar begins in the middle", () =>
    withEngine(
      { mistaken: (ids) => ids.length % 3 === 0, maxOutputs: 8, chains: true },
      async (engine, stage) => {
        const wishes = [
          request(range(1, 9), { constraint: constraint(6), stopTokenIds: [] }),
          request(range(40, 3), { stopTokenIds: [] }),
          request(range(60, 8), { constraint: constraint(8, 3), stopTokenIds: [] }),
        ];
        const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
        expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
        for (const slot of [0, 1, 2]) expect(stage.verified.get(slot)).toBeGreaterThan(4);
      },
      { drafts: { least: 1 } },
    ));

  it("goes on where a grammar begins with the first token, and drafts after that were made without it", () =>
    withEngine(
      { mistaken: () => false, maxOutputs: 8, chains: true },
      async (engine) => {
        // The second waits for the prompt that it shares: when it is given its place, the first has drafts and its first token is not known.
        const wishes = [
          request(range(1, 9), { constraint: constraint(6, 1) }),
          request([...range(1, 8), 40], { constraint: constraint(7) }),
        ];
        const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
        expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
      },
      { drafts: { least: 1 } },
    ));

  it("refuses a grammar that cannot be followed, at once or when it turns out, and gives its blocks back", () =>
    withEngine({}, async (engine) => {
      expect(() => engine.submit(request(range(1, 3), { constraint: constraint(13) }))).toThrow("it is 13");
      await expect(collect(engine.submit(request(range(1, 3), { constraint: constraint(14) })))).rejects.toThrow("it is 14");
    }));

  it("refuses constraints where it has nobody to follow them", async () => {
    const stage = new FakePagedStage({ maxSequences: 1, blocks: 4, blockSize: 4, contextTokens: 16, maxTokens: 4, rule });
    const engine = await Engine.open(stage);
    expect(() => engine.submit(request([1], { constraint: constraint(0) }))).toThrow(expect.objectContaining({ field: "constraint" }));
    await engine.close();
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    "keeps every answer through preemption, aborts, drafts and masks that come when they come (seed %i)",
    (seed) => {
      let state = seed;
      const random = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const wait = (): Promise<void> => (random(2) === 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, random(4))));
      const opened = new Set<object>();
      return withEngine(
        {
          blocks: 20,
          maxOutputs: 8,
          beforeRead: wait,
          ...(seed % 2 === 0 && { mistaken: (ids: readonly number[]) => ids.length % 4 === 1, chains: seed % 4 === 0 }),
        },
        async (engine) => {
          const client = async (): Promise<void> => {
            for (let i = 0; i < 10; i++) {
              const after = random(2) === 0 ? [] : [2 + random(3), 3].slice(0, 1 + random(2));
              const wish = request([...range(1, random(12)), ...range(random(900), 1 + random(20))], {
                maxNewTokens: 1 + random(50),
                ...(random(3) > 0 && { constraint: constraint(random(10), ...after) }),
              });
              const running = engine.submit(wish);
              if (random(5) === 0) {
                let left = random(8);
                for await (const tokens of running) if ((left -= tokens.length) < 0) break;
              } else expect(await collect(running)).toEqual(expected(wish, 64));
            }
          };
          await Promise.all(range(0, 6).map(client));
        },
        { constraints: constraints(wait, opened), drafts: seed % 2 === 0 ? { least: seed % 3 } : false },
      ).then(() => expect(opened.size).toBe(0));
    },
  );
});
