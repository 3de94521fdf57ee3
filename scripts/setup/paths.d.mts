/** Of what programs in TypeScript take from paths.mjs. */
export const runnerFlags: readonly string[];
