/**
 * The e4m3 format on the CPU: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinities; 0x7f and 0xff are NaN; largest 448. ("FP8 Formats for Deep
 * Learning", arXiv 2209.05433, table 1.)
 */

export const E4M3_MAX = 448;

export function e4m3ToNumber(code: number): number {
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  const sign = code & 0x80 ? -1 : 1;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7));
}

/** Nearest code, ties to the even mantissa, saturating at 448 as `tensor.to(float8_e4m3fn)` does after clamping. */
export function numberToE4m3(value: number): number {
  if (Number.isNaN(value)) return 0x7f;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(value), E4M3_MAX);
  if (magnitude < 2 ** -6) return sign | roundHalfEven(magnitude * 512);
  const exponent = Math.floor(Math.log2(magnitude));
  // log2 of a number just below a power of two may round up to it.
  const floor = 2 ** exponent > magnitude ? exponent - 1 : exponent;
  const mantissa = roundHalfEven((magnitude / 2 ** floor - 1) * 8);
  return sign | (((floor + 7) << 3) + mantissa);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
