/**
 * `npm test`: sets the checkout up and runs every test there is, going on after a failure. Its last line is the total over all runners.
 */
import { stagesMain } from "./stages/main.mjs";
import { outcomeTable, slowestFiles, total } from "./stages/run.mjs";
import { STAGES } from "./stages/stages.mjs";

const conclude = (/** @type {import("./stages/run.mjs").Outcome[]} */ outcomes) => {
  const slowest = slowestFiles(outcomes);
  process.stdout.write(`${slowest === "" ? "" : `\nslowest files:\n${slowest}\n`}\n${outcomeTable(outcomes)}\n\n${total(outcomes).line}\n`);
};
process.exitCode = await stagesMain({ usage: "npm test --", stages: STAGES, conclude }, process.argv.slice(2));
