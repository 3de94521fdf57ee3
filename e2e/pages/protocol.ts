/** What the contract page and its worker tell each other. */

export interface CaseResult {
  readonly name: string;
  /** Why it failed. */
  readonly error?: string;
  readonly milliseconds: number;
}

export interface SuiteResult {
  /** The adapter that ran it, or why none could. */
  readonly adapter: string;
  /** It runs one in so many of the suite's cases. */
  readonly every: number;
  readonly cases: readonly CaseResult[];
}
