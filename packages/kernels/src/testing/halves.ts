/** Rows of halves (shaders/lib/write_halves.wgsl) as numbers. */
import { type HalvesRows, halvesBytes, halvesOctets } from "../matrix/halves.ts";
import { roundUp } from "../weights.ts";
import { f16ToNumber } from "./matrices.ts";

/** Where the halves of a word's columns of four stand for fp8: codes 0 and 2, then 1 and 3. */
const PERMUTED = [0, 2, 1, 3] as const;

/** [rows, columns rounded up to a tile's], of what was read of the rows' buffer. */
export function decodeHalves(bytes: ArrayBuffer, { layout }: Pick<HalvesRows, "layout">): Float64Array {
  const { rows, columns, blocks = false, format, products } = layout;
  const octets = halvesOctets(columns);
  const stored = blocks ? roundUp(rows, 16) : rows;
  const halves = new Uint16Array(bytes);
  const words = new Float32Array(bytes, 0, halvesBytes(layout) / 4);
  const out = new Float64Array(rows * octets * 8);
  for (let row = 0; row < rows; row++) {
    const power = words[(2 * stored * octets + row) * 4] ?? Number.NaN;
    for (let octet = 0; octet < octets; octet++) {
      const inBlocks = Math.floor(row / 16) * 16 * octets + Math.floor(octet / 2) * 32 + (row % 16) * 2 + (octet % 2);
      const place = blocks ? inBlocks : row * octets + octet;
      for (let i = 0; i < 8; i++) {
        const at = format === "fp8" ? (i & 4) + (PERMUTED[i % 4] ?? 0) : i;
        const half = (element: number): number => f16ToNumber(halves[element * 8 + at] ?? 0);
        const rest = products === 2 ? half(stored * octets + place) : 0;
        out[(row * octets + octet) * 8 + i] = (half(place) + rest) * power;
      }
    }
  }
  return out;
}
