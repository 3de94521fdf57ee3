/** What `npm test` and `pnpm ok` share: arguments, setup, the run, the exit code. */
import path from "node:path";
import { ensureChromium } from "../setup/chromium.mjs";
import { runCommand } from "../setup/command.mjs";
import { ensureReady } from "../setup/ensure.mjs";
import { reportText } from "../setup/errors.mjs";
import { root, stateDir } from "../setup/paths.mjs";
import { exitingOnSignals } from "../setup/signals.mjs";
import { runStages } from "./run.mjs";
import { parseStageArguments } from "./select.mjs";

/**
 * @param {object} command
 * @param {string} command.usage the command as a person types it
 * @param {import("./stages.mjs").Stage[]} command.stages
 * @param {(outcomes: import("./run.mjs").Outcome[]) => void} command.conclude prints the end
 * @param {string[]} args
 * @returns {Promise<number>} exit code
 */
export async function stagesMain({ usage, stages, conclude }, args) {
  const width = Math.max(...stages.map((stage) => stage.name.length));
  const listing = stages.map((stage) => `  ${stage.name.padEnd(width)}  ${stage.about}\n`).join("");
  const names = stages.map((stage) => stage.name);
  const wanted = parseStageArguments(args, names);
  if (wanted.kind === "wrong") {
    process.stderr.write(`Cannot run: ${wanted.message}\n`);
    return 2;
  }
  if (wanted.kind !== "run") {
    const help = `Usage: ${usage} [--only STAGE,...] [--list]\n\nSets this checkout up and runs these stages, going on after a failure:\n`;
    process.stdout.write(wanted.kind === "help" ? help + listing : listing);
    return 0;
  }
  let ready;
  try {
    ready = await ensureReady();
  } catch (error) {
    process.stdout.write(`${reportText(error)}\n`);
    conclude([{ name: "setup", passed: 0, failed: 1, skipped: 0, seconds: 0, output: "" }]);
    return 1;
  }
  const chosen = stages.filter((stage) => wanted.names.includes(stage.name));
  const { deno, env } = ready;
  const outcomes = await exitingOnSignals("Interrupted.", async () => {
    // Before the first stage, so that nobody waits for an installation in the middle; a failure is the stage's to report.
    const chromium = chosen.some((stage) => stage.name.startsWith("e2e:")) ? ensureChromium() : Promise.resolve("");
    await chromium.catch(() => {});
    const context = { root, reportDir: path.join(stateDir, "reports"), deno, env, run: runPlainly, chromium: () => chromium };
    return runStages(chosen, context);
  });
  conclude(outcomes);
  return outcomes.length > 0 && outcomes.every((outcome) => outcome.failed === 0 && outcome.passed > 0) ? 0 : 1;
}

/**
 * Without colours: counts are read from the output, and it may end up in a build's log.
 * @type {import("../setup/command.mjs").Runner}
 */
function runPlainly(command, args, options) {
  return runCommand(command, args, { ...options, env: { ...options?.env, NO_COLOR: "1", FORCE_COLOR: undefined } });
}
