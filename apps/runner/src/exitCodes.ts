/** What the command ends with; scripts rely on these. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;
