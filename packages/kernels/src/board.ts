/** The room in which workgroups of a dispatch meet (shaders/lib/board.wgsl). */

/** @throws RangeError if the board is smaller than what is done needs: what lies beyond would never be there, and the board would not be zeros again */
export function checkBoard(what: string, board: GPUBuffer, bytes: number): void {
  if (board.size < bytes) throw new RangeError(`Cannot ${what} over a board of ${board.size} bytes, expected ${bytes}`);
}
