/** Runs stages one after the other, whatever fails, and says how it went. */

/**
 * @typedef {import("./stages.mjs").StageResult & { name: string, seconds: number }} Outcome
 */

/**
 * @param {import("./stages.mjs").Stage[]} stages
 * @param {import("./stages.mjs").StageContext} context
 * @returns {Promise<Outcome[]>}
 */
export async function runStages(stages, context) {
  const width = Math.max(...stages.map((stage) => stage.name.length));
  /** @type {Outcome[]} */
  const outcomes = [];
  for (const stage of stages) {
    const start = Date.now();
    process.stdout.write(`${stage.name.padEnd(width)}  `);
    const result = await stage.run(context);
    const outcome = { ...result, name: stage.name, seconds: (Date.now() - start) / 1000 };
    outcomes.push(outcome);
    process.stdout.write(`${result.failed === 0 ? "ok" : "FAILED"}  ${outcome.seconds.toFixed(1)} s\n`);
    if (result.failed > 0) process.stdout.write(`${result.output.trimEnd()}\n\n`);
  }
  return outcomes;
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
 * @returns {{ line: string, ok: boolean }} `line`: "12 passed, 0 failed", with the skipped ones if there are any
 */
export function total(outcomes) {
  const sum = (/** @type {"passed" | "failed" | "skipped"} */ key) => outcomes.reduce((count, outcome) => count + outcome[key], 0);
  const [passed, failed, skipped] = [sum("passed"), sum("failed"), sum("skipped")];
  const line = `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
  return { line, ok: failed === 0 && passed > 0 };
}
