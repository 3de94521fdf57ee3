import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { gpuCounts, playwrightCounts, playwrightParts, vitestCounts } from "./counts.mjs";
import { outcomeTable, runStages, slowestFiles, total } from "./run.mjs";
import { parseStageArguments } from "./select.mjs";
import { withCounts } from "./stages.mjs";

describe("gpuCounts()", () => {
  it("reads the last line", () => {
    expect(gpuCounts("ok - says 1 passed, 1 failed\n12 passed, 3 failed\n")).toEqual({ passed: 12, failed: 3, skipped: 0 });
  });

  it("gives nothing for a run that ended before its last line", () => {
    expect(gpuCounts("# a.gpu.test.ts on dawn\nok - a (1 ms)\nSegmentation fault\n")).toBeUndefined();
  });
});

describe("vitestCounts()", () => {
  it("counts tests, and files that did not load", () => {
    const report = {
      numPassedTests: 5,
      numFailedTests: 1,
      numPendingTests: 2,
      numTodoTests: 1,
      testResults: [
        { status: "failed", assertionResults: [] },
        { status: "failed", assertionResults: [{}] },
        { status: "passed", assertionResults: [{}] },
      ],
    };
    expect(vitestCounts(JSON.stringify(report))).toEqual({ passed: 5, failed: 2, skipped: 3 });
  });

  it("gives nothing for a report that is missing or of another form", () => {
    expect([vitestCounts(""), vitestCounts("[]"), vitestCounts("{}")]).toEqual([undefined, undefined, undefined]);
  });
});

describe("playwrightCounts()", () => {
  it("counts a flaky test as passed", () => {
    expect(playwrightCounts('{"stats":{"expected":2,"unexpected":1,"flaky":1,"skipped":3}}')).toEqual({ passed: 3, failed: 1, skipped: 3 });
  });
});

describe("playwrightParts()", () => {
  it("sums what the tests of a file took, retries and nested suites too", () => {
    const spec = (...durations: number[]) => ({ tests: [{ results: durations.map((duration) => ({ duration })) }] });
    const suites = [{ file: "a.spec.ts", specs: [spec(1000, 500)], suites: [{ specs: [spec(250)] }] }];
    expect(playwrightParts(JSON.stringify({ suites }))).toEqual([{ name: "e2e/a.spec.ts", seconds: 1.75 }]);
    expect(playwrightParts("")).toEqual([]);
  });
});

describe("withCounts()", () => {
  const counts = { passed: 2, failed: 0, skipped: 0 };

  it.each([
    ["its runner ended badly after its tests", 139, counts],
    ["its runner left no report", 0, undefined],
    ["no test ran", 0, { passed: 0, failed: 0, skipped: 4 }],
  ])("fails a stage when %s", (_, code, given) => {
    expect(withCounts({ code, stdout: "", output: "" }, given).failed).toBe(1);
  });

  it("keeps the counts of a good run", () => {
    expect(withCounts({ code: 0, stdout: "", output: "x" }, counts)).toEqual({ ...counts, output: "x" });
  });
});

describe("runStages()", () => {
  beforeEach(() => void vi.spyOn(process.stdout, "write").mockReturnValue(true));
  afterEach(() => vi.restoreAllMocks());

  /** Runs "a" alone, then "b", "c", "d" of one lane, then "e" alone; says in which order they began and ended. */
  async function events(processors: number): Promise<string[]> {
    const log: string[] = [];
    const stage = (name: string, lane?: string) => ({
      name,
      about: "",
      inOk: false,
      ...(lane !== undefined && { lane }),
      run: async () => {
        log.push(`+${name}`);
        await new Promise((resolve) => setImmediate(resolve));
        log.push(`-${name}`);
        return { passed: 1, failed: 0, skipped: 0, output: "" };
      },
    });
    const stages = [stage("a"), stage("b", "gpu"), stage("c", "gpu"), stage("d", "gpu"), stage("e")];
    const context = {
      root: "",
      reportDir: "",
      deno: "",
      env: {},
      run: () => Promise.reject(new Error("unused")),
      chromium: async () => "",
    };
    const outcomes = await runStages(stages, context, processors);
    expect(outcomes.map(({ name }) => name)).toEqual(["a", "b", "c", "d", "e"]);
    return log;
  }

  it("runs neighbours of a lane at once, as many as there are processors", async () => {
    const log = await events(2);
    expect(log.slice(0, 4)).toEqual(["+a", "-a", "+b", "+c"]);
    expect(log.slice(-3)).toEqual(["-d", "+e", "-e"]);
  });

  it("runs them one after the other on one processor", async () => {
    expect((await events(1)).join("")).toBe("+a-a+b-b+c-c+d-d+e-e");
  });
});

describe("total()", () => {
  const outcome = { name: "unit", passed: 3, failed: 0, skipped: 0, seconds: 1.23, output: "" };

  it("sums over stages, and names skipped tests only if there are some", () => {
    expect(total([outcome, { ...outcome, failed: 2 }])).toEqual({ line: "6 passed, 2 failed", ok: false });
    expect(total([{ ...outcome, skipped: 1 }])).toEqual({ line: "3 passed, 0 failed, 1 skipped", ok: true });
  });

  it("is not satisfied when nothing ran", () => {
    expect(total([])).toEqual({ line: "0 passed, 0 failed", ok: false });
  });

  it("goes with a table of aligned columns", () => {
    expect(outcomeTable([outcome])).toBe("stage  passed  failed  skipped   time\nunit        3       0        0  1.2 s");
  });
});

describe("slowestFiles()", () => {
  it("names the slowest first, of all stages", () => {
    const stage = { passed: 1, failed: 0, skipped: 0, seconds: 3, output: "" };
    const outcomes = [
      { ...stage, name: "unit" },
      { ...stage, name: "gpu", parts: ["a", "b"].map((name, index) => ({ name, seconds: index + 1 })) },
      { ...stage, name: "e2e", parts: [{ name: "c", seconds: 1.5 }] },
    ];
    expect(slowestFiles(outcomes, 2)).toBe("    2.0 s  gpu  b\n    1.5 s  e2e  c");
    expect(slowestFiles([])).toBe("");
  });
});

describe("parseStageArguments()", () => {
  const names = ["types", "unit", "gpu:wgpu", "gpu:dawn"];

  it("runs everything by default, in order whatever the order asked for", () => {
    expect(parseStageArguments([], names)).toEqual({ kind: "run", names });
    expect(parseStageArguments(["--only", "gpu:dawn,types"], names)).toEqual({ kind: "run", names: ["types", "gpu:dawn"] });
  });

  it("takes a group's name for all of it, and several --only", () => {
    expect(parseStageArguments(["--only=gpu", "--only", "unit"], names)).toEqual({ kind: "run", names: ["unit", "gpu:wgpu", "gpu:dawn"] });
  });

  it.each([[["--only", "nope"]], [["--only"]], [["--quick"]], [["--only", ""]]])("rejects %j", (args) => {
    expect(parseStageArguments(args, names).kind).toBe("wrong");
  });
});
