/** The element types that a safetensors file may name, with their size in bytes. */

export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BYTES, value);
}

export function dtypeBytes(dtype: Dtype): number {
  return DTYPE_BYTES[dtype];
}

/** Bytes of a tensor, or null where the product leaves the safe integers. Empty shapes are scalars. */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | null {
  if (shape.includes(0)) return 0;
  let bytes = DTYPE_BYTES[dtype];
  for (const dim of shape) {
    bytes *= dim;
    if (bytes > Number.MAX_SAFE_INTEGER) return null;
  }
  return bytes;
}
