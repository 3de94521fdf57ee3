import { describe, expect, it } from "vitest";
import { SpeculationPacer } from "./speculation.ts";

interface Device {
  /** Milliseconds of a step, by number of drafts. */
  readonly stepMs: readonly number[];
  /** How often the first, second and third draft are right, if those before were. */
  readonly right: readonly number[];
  /** Of step times, up and down. */
  readonly noise?: number;
  /** A share of steps that take ten times as long. */
  readonly disturbed?: number;
  /** Now and then, for some 200 steps, everything takes so many times as long. */
  readonly busy?: number;
  /** Tokens of an answer, and how much longer the first steps after its prompt take with drafts. */
  readonly answers?: { readonly tokens: number; readonly promptMs: number };
}

interface Outcome {
  readonly ms: number;
  readonly tokens: number;
  /** Steps by number of drafts. */
  readonly steps: number[];
}

function run(pacer: SpeculationPacer, device: Device, tokens: number, { streams = 1, least = 0, most = 3, seed = 7 } = {}): Outcome {
  let state = seed;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const outcome = { ms: 0, tokens: 0, steps: [0, 0, 0, 0] };
  let busy = false;
  let answered = -1;
  while (outcome.tokens < tokens * streams) {
    if (random() < 0.01) busy = !busy;
    const drafts = pacer.next(streams, { least, most });
    expect(drafts).toBeGreaterThanOrEqual(least);
    expect(drafts).toBeLessThanOrEqual(most);
    // Plain steps are read several at once.
    const steps = drafts === 0 ? 6 : 1;
    const ms = Array.from(
      { length: steps },
      () =>
        (device.stepMs[drafts] ?? 0) *
        (1 + (device.noise ?? 0) * (2 * random() - 1)) *
        (random() < (device.disturbed ?? 0) ? 10 : 1) *
        (busy ? (device.busy ?? 1) : 1),
    ).reduce((sum, one) => sum + one);
    const verified = Array.from({ length: drafts > 0 ? streams : 0 }, () => {
      let right = 0;
      while (right < drafts && random() < (device.right[right] ?? 0)) right++;
      return { drafts, right };
    });
    const { answers } = device;
    const afterPrompt = answers !== undefined && Math.floor(outcome.tokens / answers.tokens) > answered;
    if (answers && afterPrompt) answered = Math.floor(outcome.tokens / answers.tokens);
    const promptMs = afterPrompt && drafts > 0 ? answers.promptMs : 0;
    outcome.ms += ms + promptMs;
    outcome.tokens += streams * steps + verified.reduce((sum, { right }) => sum + right, 0);
    outcome.steps[drafts] = (outcome.steps[drafts] ?? 0) + steps;
    pacer.record({ drafts, steps, ms: ms + promptMs, afterPrompt, verified });
  }
  return outcome;
}

/** Of a token, where one without drafts takes 1, in steps by number of drafts: what the device and its drafts are on average. */
function expectedMs({ stepMs, right }: Device, steps: readonly number[]): number {
  let [ms, tokens] = [0, 0];
  for (const [drafts, count] of steps.entries()) {
    ms += count * (stepMs[drafts] ?? 0);
    tokens += count * right.slice(0, drafts).reduceRight((sum, share) => 1 + share * sum, 1);
  }
  return ms / tokens;
}

/** Arithmetic is all that a step costs, or next to nothing of it. */
const CPU: Device = { stepMs: [1, 2.7, 3.8, 4.9], right: [0.8, 0.7, 0.6] };
const GPU: Device = { stepMs: [1, 1.15, 1.25, 1.35], right: [0.8, 0.7, 0.6] };

describe("SpeculationPacer", () => {
  it("costs next to nothing where drafts never pay", () => {
    for (const noise of [0, 0.2, 0.4]) {
      const { ms, tokens } = run(new SpeculationPacer(3), { ...CPU, noise }, 5000);
      expect(ms / tokens).toBeLessThan(1.02 + noise / 20);
    }
  });

  it("leaves drafts soon where it began with them and they never pay, and keeps them where they do", () => {
    for (const noise of [0, 0.2, 0.4]) {
      const { ms, tokens } = run(new SpeculationPacer(3, 1), { ...CPU, noise }, 5000);
      expect(ms / tokens).toBeLessThan(1.03 + noise / 20);
      expect(run(new SpeculationPacer(3, 1), { ...GPU, noise }, 500).steps[0]).toBeLessThan(80);
    }
  });

  it("is not taken in by other work that disturbs some steps", () => {
    const disturbed = 0.1;
    const { steps } = run(new SpeculationPacer(3), { ...CPU, disturbed }, 5000);
    expect((steps[0] ?? 0) / steps.reduce((a, b) => a + b)).toBeGreaterThan(0.85);
  });

  it("loses no more than trials cost against no drafts, near the point where they begin to pay too, on a machine that others disturb", () => {
    const right = [0.85, 0.75, 0.65];
    // Of one draft, in plain steps: 1.85 tokens. A further one costs less.
    for (const one of [1.4, 1.7, 1.8, 1.85, 1.9, 2, 2.3])
      for (const noise of [0, 0.2, 0.4])
        for (const others of [{}, { busy: 2 }, { busy: 4 }, { disturbed: 0.02 }]) {
          const device: Device = { stepMs: [1, one, one + 0.6 * (one - 1), one + 1.2 * (one - 1)], right, noise, ...others };
          // Other work may meet all of one trial's plain blocks, seldom: then drafts that do not pay go on until the next.
          const seeds = [7, 77, 777];
          const tokenMs = seeds.map((seed) => expectedMs(device, run(new SpeculationPacer(3, 1), device, 5000, { seed }).steps));
          const what = `${one} ms with one draft, noise ${noise}, ${JSON.stringify(others)}: ${tokenMs.map((ms) => ms.toFixed(3)).join()}`;
          expect(tokenMs.reduce((sum, ms) => sum + ms) / seeds.length, what).toBeLessThan(1.03);
        }
  });

  it("takes no account of steps while it rests", () => {
    const pacer = new SpeculationPacer(3, 1);
    const step = (drafts: number, ms: number): void => pacer.record({ drafts, steps: 10, ms, verified: [] });
    const next = (): number => pacer.next(1, { least: 0, most: 1 });
    const block = (): void => {
      const drafts = next();
      for (let i = 0; i < 2; i++) step(drafts, 10);
    };
    block();
    pacer.rest();
    // As if plain steps took no time at all.
    for (let i = 0; i < 100; i++) step(0, 0.001);
    // Drafts, which are taken to be right and cost nothing here, win all the same.
    for (let i = 0; i < 13; i++) block();
    expect(next()).toBe(1);
  });

  it("drafts nothing where answers are too short for what the module's run over their prompts costs", () => {
    // Eight tokens without drafts take 8 ms, with three about 4.
    for (const [promptMs, plain] of [
      [6, true],
      [1, false],
    ] as const)
      for (const noise of [0, 0.2]) {
        const { steps } = run(new SpeculationPacer(3, 1), { ...GPU, noise, answers: { tokens: 8, promptMs } }, 3000);
        expect((steps[0] ?? 0) / steps.reduce((a, b) => a + b) > 0.8).toBe(plain);
      }
  });

  it("finds the number of drafts that gives most, and stays with it", () => {
    // Tokens a step: 1, 1.8, 2.36, 2.7.
    for (const [stepMs, best] of [
      [GPU.stepMs, 3],
      [[1, 1.2, 1.35, 2.4], 2],
      [[1, 1.1, 2, 3], 1],
    ] as const) {
      const { steps } = run(new SpeculationPacer(3), { ...GPU, stepMs, noise: 0.05 }, 10_000);
      expect((steps[best] ?? 0) / steps.reduce((a, b) => a + b)).toBeGreaterThan(0.8);
    }
  });

  it("tries other numbers so cheaply that an engine's first tokens take hardly longer than with one draft throughout, where that is best", () => {
    // Steps of 4 rows on a software adapter take as much longer as they bring.
    const device: Device = { stepMs: [7, 9, 13.5, 14], right: [0.91, 0.6, 0.4] };
    const one = expectedMs(device, [0, 1]);
    for (const noise of [0, 0.1, 0.2, 0.3]) {
      const { steps } = run(new SpeculationPacer(3, 1), { ...device, noise }, 800);
      expect(expectedMs(device, steps) / one).toBeLessThan(1.05);
      // Plain steps are compared at once, for drafts may be slower.
      expect(steps[0]).toBeGreaterThan(0);
      expect((steps[2] ?? 0) + (steps[3] ?? 0)).toBeLessThan(40);
    }
  });

  it("tries a further draft only when a hundred steps have shown what one brings, and each of them apart", () => {
    const pacer = new SpeculationPacer(3, 1);
    const seen = Array.from({ length: 6 }, () => run(pacer, { stepMs: [7, 9, 13.5, 14], right: [0.91, 0.6, 0.4] }, 100).steps);
    expect((seen[0]?.[2] ?? 0) + (seen[0]?.[3] ?? 0)).toBe(0);
    // No two of them within 200 tokens.
    for (const [index, steps] of seen.entries()) expect((steps[2] ?? 0) * ((steps[3] ?? 0) + (seen[index - 1]?.[3] ?? 0))).toBe(0);
    expect(seen.some((steps) => (steps[3] ?? 0) > 0)).toBe(true);
  });

  it("goes back to plain steps when drafts become wrong, and to drafts when they are right again", () => {
    const pacer = new SpeculationPacer(3);
    run(pacer, GPU, 1000);
    const wrong = { ...GPU, right: [0.02, 0.02, 0.02] };
    expect(run(pacer, wrong, 1000).steps[0]).toBeGreaterThan(780);
    const later = run(pacer, GPU, 20_000).steps;
    expect(later[3]).toBeGreaterThan(later[0] ?? 0);
  });

  it("keeps apart what it knows of few streams and of many", () => {
    const pacer = new SpeculationPacer(3);
    run(pacer, GPU, 1000);
    const many = { ...GPU, stepMs: [1, 2, 3, 4] };
    expect(run(pacer, many, 1000, { streams: 8 }).steps[0]).toBeGreaterThan(900);
    expect(run(pacer, GPU, 1000).steps[0]).toBeLessThan(50);
  });

  it("stays between the least and the most", () => {
    const { steps } = run(new SpeculationPacer(3), CPU, 500, { least: 1, most: 2 });
    expect(steps[0]).toBe(0);
    expect(steps[3]).toBe(0);
    expect(run(new SpeculationPacer(3), GPU, 500, { least: 2, most: 2 }).steps[2]).toBeGreaterThan(100);
  });
});
