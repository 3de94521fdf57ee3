/** What happens when a device is lost while something runs on it. */

/** Losses in a row, without a token between them, after which requests end. */
export const MOST_REOPENS = 3;

/** By name: the error may have crossed a worker's port. */
export function isLoss(error: unknown): boolean {
  return error instanceof Error && (error.name === "DeviceLostError" || error.name === "PeerLostError");
}
