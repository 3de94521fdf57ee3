/**
 * Reads how many tests passed from each test runner's own report. A report that is missing or makes no sense gives undefined: a runner that
 * crashed has not passed.
 */

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/**
 * @param {string} json of vitest's json reporter
 * @returns {Counts | undefined}
 */
export function vitestCounts(json) {
  const report = parse(json);
  const passed = report?.["numPassedTests"];
  const failed = report?.["numFailedTests"];
  if (typeof passed !== "number" || typeof failed !== "number") return undefined;
  const results = Array.isArray(report?.["testResults"]) ? report["testResults"] : [];
  // A file that fails to load has no tests to count.
  const broken = results.filter((file) => file?.status === "failed" && (file.assertionResults ?? []).length === 0).length;
  return { passed, failed: failed + broken, skipped: number(report?.["numPendingTests"]) + number(report?.["numTodoTests"]) };
}

/**
 * @param {string} json of Playwright's json reporter
 * @returns {Counts | undefined}
 */
export function playwrightCounts(json) {
  const stats = parse(json)?.["stats"];
  if (typeof stats?.expected !== "number" || typeof stats.unexpected !== "number") return undefined;
  return { passed: stats.expected + number(stats.flaky), failed: stats.unexpected, skipped: number(stats.skipped) };
}

/**
 * @param {string} json of Playwright's json reporter
 * @returns {import("./stages.mjs").Part[]} what each file took
 */
export function playwrightParts(json) {
  const seconds = (/** @type {any} */ suite) =>
    list(suite?.suites).reduce((sum, inner) => sum + seconds(inner), 0) +
    list(suite?.specs)
      .flatMap((spec) => list(spec?.tests).flatMap((test) => list(test?.results)))
      .reduce((sum, result) => sum + number(result?.duration) / 1000, 0);
  return list(parse(json)?.["suites"]).map((suite) => ({ name: `e2e/${suite?.file}`, seconds: seconds(suite) }));
}

/**
 * @param {string} output of scripts/gpu-tests.ts
 * @returns {Counts | undefined} of its last line, "12 passed, 0 failed"
 */
export function gpuCounts(output) {
  const last = /(?:^|\n)(\d+) passed, (\d+) failed\s*$/.exec(output);
  return last === null ? undefined : { passed: Number(last[1]), failed: Number(last[2]), skipped: 0 };
}

/**
 * @param {string} json
 * @returns {Record<string, any> | undefined}
 */
function parse(json) {
  try {
    const value = JSON.parse(json);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** @param {unknown} value */
function number(value) {
  return typeof value === "number" ? value : 0;
}

/**
 * @param {unknown} value
 * @returns {any[]}
 */
function list(value) {
  return Array.isArray(value) ? value : [];
}
