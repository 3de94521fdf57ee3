/** Runs stages, whatever fails, and says how it went. */
import { availableParallelism } from "node:os";

/**
 * @typedef {import("./stages.mjs").StageResult & { name: string, seconds: number }} Outcome
 */

/**
 * One stage after the other; neighbours of one `lane` at once, as many as there are processors.
 * @param {import("./stages.mjs").Stage[]} stages
 * @param {import("./stages.mjs").StageContext} context
 * @param {number} [processors]
 * @returns {Promise<Outcome[]>} in the order of the stages
 */
export async function runStages(stages, context, processors = availableParallelism()) {
  const width = Math.max(...stages.map((stage) => stage.name.length));
  /** @type {Outcome[]} */
  const outcomes = [];
  for (const group of lanes(stages)) {
    const waiting = [...group.entries()];
    /** @type {Outcome[]} */
    const finished = [];
    const work = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const [index, stage] = next;
        if (group.length === 1) process.stdout.write(`${stage.name.padEnd(width)}  `);
        const outcome = await runStage(stage, context);
        finished[index] = outcome;
        if (group.length > 1) process.stdout.write(`${stage.name.padEnd(width)}  `);
        process.stdout.write(`${outcome.failed === 0 ? "ok" : "FAILED"}  ${outcome.seconds.toFixed(1)} s\n`);
        if (outcome.failed > 0) process.stdout.write(`${outcome.output.trimEnd()}\n\n`);
      }
    };
    await Promise.all(Array.from({ length: Math.min(processors, group.length) }, work));
    outcomes.push(...finished);
  }
  return outcomes;
}

/**
 * @param {import("./stages.mjs").Stage} stage
 * @param {import("./stages.mjs").StageContext} context
 * @returns {Promise<Outcome>}
 */
async function runStage(stage, context) {
  const start = Date.now();
  const result = await stage.run(context);
  return { ...result, name: stage.name, seconds: (Date.now() - start) / 1000 };
}

/**
 * @param {import("./stages.mjs").Stage[]} stages
 * @returns {import("./stages.mjs").Stage[][]} what runs at once, in order
 */
function lanes(stages) {
  /** @type {import("./stages.mjs").Stage[][]} */
  const groups = [];
  for (const stage of stages) {
    const last = groups.at(-1);
    if (last && stage.lane !== undefined && last[0]?.lane === stage.lane) last.push(stage);
    else groups.push([stage]);
  }
  return groups;
}

/**
 * @param {Outcome[]} outcomes
 * @returns {string}
 */
export function outcomeTable(outcomes) {
  const rows = [
    ["stage", "passed", "failed", "skipped", "time"],
    ...outcomes.map(({ name, passed, failed, skipped, seconds }) => [
      name,
      `${passed}`,
      `${failed}`,
      `${skipped}`,
      `${seconds.toFixed(1)} s`,
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  "),
    )
    .join("\n");
}

/**
 * @param {Outcome[]} outcomes
 * @param {number} [count]
 * @returns {string} the test files that took longest, a line each; empty where no stage tells of its files
 */
export function slowestFiles(outcomes, count = 12) {
  return outcomes
    .flatMap((outcome) => (outcome.parts ?? []).map((part) => ({ ...part, stage: outcome.name })))
    .toSorted((a, b) => b.seconds - a.seconds)
    .slice(0, count)
    .map(({ stage, name, seconds }) => `${seconds.toFixed(1).padStart(7)} s  ${stage}  ${name}`)
    .join("\n");
}

/**
 * @param {Outcome[]} outcomes
 * @returns {{ line: string, ok: boolean }} `line`: "12 passed, 0 failed", with the skipped ones if there are any
 */
export function total(outcomes) {
  const sum = (/** @type {"passed" | "failed" | "skipped"} */ key) => outcomes.reduce((count, outcome) => count + outcome[key], 0);
  const [passed, failed, skipped] = [sum("passed"), sum("failed"), sum("skipped")];
  const line = `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
  return { line, ok: failed === 0 && passed > 0 };
}
