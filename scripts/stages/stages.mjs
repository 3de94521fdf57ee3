/**
 * The stages of `pnpm ok` and `npm test`, in the order in which they run: the cheap ones first. A stage whose files are missing fails.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { reportText } from "../setup/errors.mjs";
import { gpuCounts, playwrightCounts, playwrightParts, vitestCounts } from "./counts.mjs";

/**
 * @typedef {object} StageContext
 * @property {string} root
 * @property {string} reportDir for the runners' reports
 * @property {string} deno
 * @property {Record<string, string>} env
 * @property {import("../setup/command.mjs").Runner} run
 * @property {() => Promise<string>} chromium path of the browser; throws when there is none
 *
 * @typedef {object} StageResult
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {string} output
 * @property {readonly Part[]} [parts] of a stage that runs its files one by one
 *
 * @typedef {{ name: string, seconds: number }} Part
 *
 * @typedef {{ name: string, about: string, inOk: boolean, lane?: string, run: (context: StageContext) => Promise<StageResult> }} Stage
 */

/** Driver and shader compiler of a software adapter keep one processor busy, seldom two, in Chromium too: these stages run at once. The long ones come first. */
const GPU_LANE = "gpu";

/** A stage that hangs must not hang a build machine for hours. */
const TIMEOUT_MS = 40 * 60_000;
const GPU_TEST_RUNNER = "scripts/gpu-tests.ts";
const SHADER_COMPILER = "packages/kernels/test/compile-shaders.ts";

/** What these take software adapters is compiling, most of it: Mesa's llvmpipe does that in four fifths of the time if LLVM leaves its optimizations out. What Mesa folds before, as packing and unpacking, it still folds. */
const MOSTLY_COMPILING = ["packages/kernels/test/contracts.gpu.test.ts", "packages/model/test/micro.gpu.test.ts"];
const UNOPTIMIZED = { GALLIVM_PERF: "nopt" };

/** Playwright's files that are not about the chat page. */
const OTHER_SITES = ["e2e/kernels.spec.ts", "e2e/library.spec.ts"];
/** Those whose browsers run in network namespaces. */
const IN_NAMESPACES = ["e2e/swarm.spec.ts"];

/** @type {Stage[]} */
export const STAGES = [
  check("types", "TypeScript, of the packages and of these scripts", [
    ["tsc", "--noEmit", "-p", "tsconfig.json"],
    ["tsc", "--noEmit", "-p", "scripts/tsconfig.json"],
  ]),
  check("lint", "oxlint with type information", [["oxlint", "--type-aware", "--max-warnings", "0"]]),
  check("format", "oxfmt", [["oxfmt", "--check"]]),
  {
    name: "layers",
    about: "import order, declared dependencies, circular imports",
    inOk: true,
    run: async ({ root, run }) => asOne(await run(process.execPath, ["scripts/check-layers.mjs"], { cwd: root, timeoutMs: TIMEOUT_MS })),
  },
  { name: "unit", about: "vitest in Node", inOk: true, run: runVitest },
  {
    name: "net",
    about: "peers over WebRTC in network namespaces of their own, in Deno; needs Linux, root, gcc and iproute2",
    inOk: false,
    run: runNetTests,
  },
  {
    name: "e2e:swarm",
    about: "the chat page in a swarm, Chromium in network namespaces of its own; needs what net needs",
    inOk: false,
    run: (context) => runPlaywright(context, "swarm", (file) => IN_NAMESPACES.includes(file)),
  },
  {
    name: "gpu:wgpu",
    about: "GPU tests on Deno's built-in WebGPU",
    inOk: false,
    lane: GPU_LANE,
    run: (context) => runGpuTests(context, "wgpu"),
  },
  { name: "gpu:dawn", about: "GPU tests on Dawn in Deno", inOk: false, lane: GPU_LANE, run: (context) => runGpuTests(context, "dawn") },
  {
    name: "e2e:page",
    about: "the chat page in Chromium, with Playwright",
    inOk: false,
    lane: GPU_LANE,
    run: (context) => runPlaywright(context, "page", (file) => !OTHER_SITES.includes(file) && !IN_NAMESPACES.includes(file)),
  },
  {
    name: "e2e:kernels",
    about: "contract suites, and the library in a page of another site, in Chromium",
    inOk: false,
    lane: GPU_LANE,
    run: (context) => runPlaywright(context, "kernels", (file) => OTHER_SITES.includes(file)),
  },
  {
    name: "gpu:least",
    about:
      "golden files on a device with WebGPU's default limits and no optional feature, on Dawn; contract suites run so in the stage before",
    inOk: false,
    lane: GPU_LANE,
    run: runLeastDevice,
  },
  {
    name: "shaders",
    about: "every shader variant compiles, on both engines in Deno",
    inOk: true,
    lane: GPU_LANE,
    run: async ({ root, deno, env, run }) => {
      if (!existsSync(path.join(root, SHADER_COMPILER))) return missing(SHADER_COMPILER);
      return asOne(await run(deno, ["run", "--quiet", "-A", SHADER_COMPILER], { cwd: root, env, timeoutMs: TIMEOUT_MS }));
    },
  },
];

/**
 * @param {string} name
 * @param {string} about
 * @param {string[][]} commands of node_modules/.bin; all run, and count as one
 * @returns {Stage}
 */
function check(name, about, commands) {
  return {
    name,
    about,
    inOk: true,
    run: async ({ root, run }) => {
      const results = [];
      for (const [tool = "", ...args] of commands) {
        results.push(await run(path.join(root, "node_modules", ".bin", tool), args, { cwd: root, timeoutMs: TIMEOUT_MS }));
      }
      const code = results.find((result) => result.code !== 0)?.code ?? 0;
      return asOne({ code, stdout: "", output: results.map((result) => result.output).join("") });
    },
  };
}

/**
 * @param {StageContext} context
 * @returns {Promise<StageResult>}
 */
async function runVitest({ root, reportDir, env, run }) {
  const report = freshReport(reportDir, "unit.json");
  const vitest = path.join(root, "node_modules", ".bin", "vitest");
  const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const result = await run(vitest, args, { cwd: root, env, timeoutMs: TIMEOUT_MS });
  return withCounts(result, vitestCounts(readReport(report)));
}

/**
 * One process a file: a driver that crashes, or memory that a file does not give back, stays that file's matter. Where the engine is not what a file is about, its name
 * says on which of them it runs: `*.wgpu.test.ts`, `*.dawn.test.ts`.
 * @param {StageContext} context
 * @param {"wgpu" | "dawn"} engine
 * @returns {Promise<StageResult>}
 */
async function runGpuTests({ root, deno, env, run }, engine) {
  const files = ["packages", "apps"].flatMap((dir) =>
    filesUnder(root, dir, (name) => name.endsWith(".gpu.test.ts") || name.endsWith(`.${engine}.test.ts`)),
  );
  if (files.length === 0) return missing("packages/**/*.gpu.test.ts");
  const results = [];
  for (const file of files) results.push(await runGpuFile({ root, deno, env, run }, file, { SHOAL_WEBGPU: engine }));
  return sum(results);
}

/**
 * One process a file, as with the GPU tests, and by the same runner.
 * @param {StageContext} context
 * @returns {Promise<StageResult>}
 */
async function runNetTests(context) {
  const files = ["packages", "apps", "e2e"].flatMap((dir) => filesUnder(context.root, dir, (name) => name.endsWith(".net.test.ts")));
  if (files.length === 0) return missing("packages/**/*.net.test.ts");
  const results = [];
  for (const file of files) results.push(await runGpuFile(context, file, {}));
  return sum(results);
}

/**
 * @param {StageContext} context
 * @returns {Promise<StageResult>}
 */
async function runLeastDevice(context) {
  const least = { SHOAL_WEBGPU: "dawn", SHOAL_LIMITS: "default" };
  return sum([
    await runGpuFile(context, "packages/model/test/micro.gpu.test.ts", least),
    // The other mode's cases of this model take minutes, and its kernels are those of the file before.
    await runGpuFile(context, "packages/model/test/tiny.gpu.test.ts", { ...least, SHOAL_FILTER: "w8a32" }),
  ]);
}

/**
 * @param {Pick<StageContext, "root" | "deno" | "env" | "run">} context
 * @param {string} file
 * @param {Record<string, string>} settings environment variables of scripts/gpu-tests.ts
 * @returns {Promise<StageResult>}
 */
async function runGpuFile({ root, deno, env, run }, file, settings) {
  if (!existsSync(path.join(root, file))) return missing(file);
  const args = ["run", "--quiet", "-A", GPU_TEST_RUNNER, file];
  const start = Date.now();
  const compiling = MOSTLY_COMPILING.includes(file) ? UNOPTIMIZED : {};
  const result = await run(deno, args, { cwd: root, env: { ...env, ...compiling, ...settings }, timeoutMs: TIMEOUT_MS });
  return { ...withCounts(result, gpuCounts(result.stdout)), parts: [{ name: file, seconds: (Date.now() - start) / 1000 }] };
}

/**
 * @param {StageContext} context
 * @param {string} part names what this run leaves behind
 * @param {(file: string) => boolean} wanted
 * @returns {Promise<StageResult>}
 */
async function runPlaywright({ root, reportDir, env, run, chromium }, part, wanted) {
  const files = filesUnder(root, "e2e", (name) => name.endsWith(".spec.ts")).filter(wanted);
  if (files.length === 0) return missing("e2e/**/*.spec.ts");
  let browser;
  try {
    browser = await chromium();
  } catch (error) {
    return { passed: 0, failed: 1, skipped: 0, output: reportText(error) };
  }
  const report = freshReport(reportDir, `e2e-${part}.json`);
  const playwright = path.join(root, "node_modules", ".bin", "playwright");
  const options = ["--config", "e2e/playwright.config.ts", "--output", `e2e/test-results/${part}`, "--reporter=list,json"];
  const result = await run(playwright, ["test", ...options, ...files], {
    cwd: root,
    env: { ...env, CHROMIUM_PATH: browser, PLAYWRIGHT_JSON_OUTPUT_FILE: report },
    timeoutMs: TIMEOUT_MS,
  });
  const json = readReport(report);
  return { ...withCounts(result, playwrightCounts(json)), parts: playwrightParts(json) };
}

/**
 * @param {import("../setup/command.mjs").CommandResult} result
 * @returns {StageResult}
 */
function asOne({ code, output }) {
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, output };
}

/**
 * A runner's counts, distrusted: one that ended badly has failed at least once, and one that ran nothing has not passed.
 * @param {import("../setup/command.mjs").CommandResult} result
 * @param {import("./counts.mjs").Counts | undefined} counts
 * @returns {StageResult}
 */
export function withCounts({ code, output }, counts) {
  const { passed, failed, skipped } = counts ?? { passed: 0, failed: 0, skipped: 0 };
  if (failed > 0) return { passed, failed, skipped, output };
  if (code !== 0) return { passed, failed: 1, skipped, output: `${output}\nThe runner ended with ${code}, though no test failed.` };
  if (counts === undefined) return { passed, failed: 1, skipped, output: `${output}\nThe runner left no report.` };
  if (passed === 0) return { passed, failed: 1, skipped, output: `${output}\nNo test ran.` };
  return { passed, failed, skipped, output };
}

/**
 * @param {StageResult[]} results
 * @returns {StageResult} with the output of those that failed, or of all if none did
 */
function sum(results) {
  const failing = results.filter((result) => result.failed > 0);
  const add = (/** @type {"passed" | "failed" | "skipped"} */ key) => results.reduce((count, result) => count + result[key], 0);
  const output = (failing.length > 0 ? failing : results).map((result) => result.output.trimEnd()).join("\n\n");
  const parts = results.flatMap((result) => result.parts ?? []);
  return { passed: add("passed"), failed: add("failed"), skipped: add("skipped"), output, parts };
}

/**
 * @param {string} files
 * @returns {StageResult}
 */
function missing(files) {
  return { passed: 0, failed: 1, skipped: 0, output: `There is nothing to run: no ${files}` };
}

/**
 * @param {string} reportDir
 * @param {string} name
 */
function freshReport(reportDir, name) {
  mkdirSync(reportDir, { recursive: true });
  const file = path.join(reportDir, name);
  rmSync(file, { force: true });
  return file;
}

/** @param {string} file */
function readReport(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

/**
 * @param {string} root
 * @param {string} dir
 * @param {(name: string) => boolean} wanted
 * @returns {string[]} relative to the root, with forward slashes, sorted
 */
function filesUnder(root, dir, wanted) {
  if (!existsSync(path.join(root, dir))) return [];
  return readdirSync(path.join(root, dir), { withFileTypes: true })
    .flatMap((entry) => {
      const file = `${dir}/${entry.name}`;
      if (entry.isDirectory()) return entry.name === "node_modules" || entry.name === "dist" ? [] : filesUnder(root, file, wanted);
      return entry.isFile() && wanted(entry.name) ? [file] : [];
    })
    .sort();
}
