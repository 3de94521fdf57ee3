/** paths.mjs, for programs in TypeScript. */
export const root: string;
export const stateDir: string;
export const runnerEntry: string;
export const runnerFlags: readonly string[];
