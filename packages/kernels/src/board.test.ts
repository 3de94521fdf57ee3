import { expect, it } from "vitest";
import { checkBoard } from "./board.ts";

it("checkBoard() refuses a board that is too small, with both sizes", () => {
  const board = { size: 400 } as GPUBuffer;
  expect(() => checkBoard("attend", board, 400)).not.toThrow();
  expect(() => checkBoard("attend", board, 404)).toThrow(new RangeError("Cannot attend over a board of 400 bytes, expected 404"));
});
