/** Losses of a device in a row, without a token between them, after which requests end. */
export const MOST_REOPENS = 3;
