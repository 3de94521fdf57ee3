/**
 * How matrices are cut so that every piece fits a binding. Pure.
 *
 * An MLP of any width is a group of experts: slices of its intermediate width, each a whole number of scale blocks wide.
 */
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, roundUp } from "@shoal/kernels";
import { AdapterLimitError } from "@shoal/gpu";

export interface BindingLimits {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
}

/** Bytes that one binding may span. */
export function bindingBytes(limits: BindingLimits): number {
  return Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
}

/** Row ranges [start, count], starts multiples of 128, of at most `bindingBytes` each. */
export function rowParts(
  what: string,
  rows: number,
  cols: number,
  format: WeightFormat,
  limits: BindingLimits,
): readonly { readonly rowStart: number; readonly rows: number }[] {
  const rowBytes = roundUp(cols, CHUNK) * FORMAT_BYTES[format];
  const most = bindingBytes(limits);
  if (rows * rowBytes <= most) return [{ rowStart: 0, rows }];
  const perPart = Math.floor(most / rowBytes / SCALE_BLOCK) * SCALE_BLOCK;
  if (perPart === 0) throw new AdapterLimitError(`load ${what}`, "maxStorageBufferBindingSize", SCALE_BLOCK * rowBytes, most);
  const parts: { rowStart: number; rows: number }[] = [];
  for (let rowStart = 0; rowStart < rows; rowStart += perPart) parts.push({ rowStart, rows: Math.min(perPart, rows - rowStart) });
  return parts;
}

/** Experts to a page, so that a page fits a binding. */
export function expertsPerPage(what: string, expertBytes: number, count: number, limits: BindingLimits): number {
  const most = bindingBytes(limits);
  const perPage = Math.min(count, Math.floor(most / expertBytes));
  if (perPage === 0) throw new AdapterLimitError(`load ${what}`, "maxStorageBufferBindingSize", expertBytes, most);
  return perPage;
}

export interface MlpSlices {
  readonly count: number;
  /** Columns of the intermediate width in each; the last slice may have fewer that are real. */
  readonly width: number;
}

/** Slices wider than this are cut if that wastes little: about the width of a DeepSeek-V3 expert. */
const SLICE_WIDTH = 2048;

/** Cuts an intermediate width into equal slices of whole scale blocks, preferring little padding, then slices of about 2048. */
export function mlpSlices(width: number): MlpSlices {
  if (width <= SLICE_WIDTH) return { count: 1, width };
  let best: MlpSlices = { count: 1, width };
  let bestWaste = Number.POSITIVE_INFINITY;
  for (let count = Math.ceil(width / SLICE_WIDTH); count >= 1; count--) {
    const sliced = roundUp(Math.ceil(width / count), SCALE_BLOCK);
    const waste = sliced * count - width;
    if (waste < bestWaste) {
      best = { count, width: sliced };
      bestWaste = waste;
    }
  }
  return best;
}

/** Whether shared experts of `nShared * width` columns can be cut into experts of `width`: block scales must not straddle a cut. */
export function sharedFitsGroup(nShared: number, width: number, format: WeightFormat): boolean {
  return nShared === 1 || format !== "fp8" || width % SCALE_BLOCK === 0;
}
