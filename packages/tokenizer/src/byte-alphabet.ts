/**
 * The alphabet of byte-level BPE: each of the 256 bytes has one printable character, so that vocabularies can be written as text. Printable
 * Latin-1 stands for itself, the other 68 bytes take U+0100 and up, in order (GPT-2's `bytes_to_unicode`).
 */

function standsForItself(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

function makeByteChars(): readonly string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(standsForItself(byte) ? byte : next++));
}

/** byte -> its character. */
export const byteChars: readonly string[] = makeByteChars();

const charBytes: ReadonlyMap<number, number> = new Map(byteChars.map((char, byte) => [char.charCodeAt(0), byte]));

/** The bytes that a vocabulary entry stands for, or undefined if a character of it is outside the alphabet. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = charBytes.get(token.charCodeAt(i));
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
