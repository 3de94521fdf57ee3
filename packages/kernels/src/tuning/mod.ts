/** `@shoal/kernels/tuning`: measures variants on a device, and the tables that keep what was found. */
export { shippedTable } from "./shipped.ts";
export type { TuningSize } from "./shapes.ts";
export {
  type TuningDevice,
  type TuningTable,
  TuningTableError,
  MAX_TABLE_LENGTH,
  choicesOf,
  fitsDevice,
  parseTuningTable,
} from "./table.ts";
export { TrialChoices } from "./trial.ts";
export { type TuneOptions, type TuneProblem, type TuneProgress, type TuneResult, tune } from "./tune.ts";
export type { Measurement, Winner } from "./winners.ts";
