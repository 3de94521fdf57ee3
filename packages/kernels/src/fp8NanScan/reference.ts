/** How many bytes are e4m3 NaN codes. */
export function fp8NanScanReference(codes: Uint8Array): number {
  return codes.reduce((count, code) => count + ((code & 0x7f) === 0x7f ? 1 : 0), 0);
}
