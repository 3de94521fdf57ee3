/**
 * `pnpm ok`: everything that decides whether a change is fit to commit and needs no browser: types, lint, format, import layers, unit tests,
 * shader compilation. One line a stage, and the output of those that fail.
 */
import { stagesMain } from "./stages/main.mjs";
import { STAGES } from "./stages/stages.mjs";

const conclude = () => {};
process.exitCode = await stagesMain({ usage: "pnpm ok", stages: STAGES.filter((stage) => stage.inOk), conclude }, process.argv.slice(2));
