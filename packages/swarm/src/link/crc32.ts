/** CRC-32 (IEEE 802.3, reflected, as in zlib and PNG), eight bytes a turn. Against bugs and broken links, not against people: those are kept out by the transport's encryption. */
const POLYNOMIAL = 0xedb8_8320;
const TABLES = makeTables();

export function crc32(bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  let crc = 0xffff_ffff;
  let at = 0;
  const { length } = bytes;
  for (; at + 8 <= length; at += 8) {
    crc ^= word(bytes, at);
    const high = word(bytes, at + 4);
    crc =
      entry(t7, crc) ^
      entry(t6, crc >>> 8) ^
      entry(t5, crc >>> 16) ^
      entry(t4, crc >>> 24) ^
      entry(t3, high) ^
      entry(t2, high >>> 8) ^
      entry(t1, high >>> 16) ^
      entry(t0, high >>> 24);
  }
  for (; at < length; at++) crc = (crc >>> 8) ^ entry(t0, crc ^ (bytes[at] ?? 0));
  return ~crc >>> 0;
}

function entry(table: Uint32Array, index: number): number {
  return table[index & 0xff] ?? 0;
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}

type Table = Uint32Array<ArrayBuffer>;

function makeTables(): readonly [Table, Table, Table, Table, Table, Table, Table, Table] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? POLYNOMIAL : 0);
    return crc >>> 0;
  });
  const next = (table: Table): Table => table.map((crc) => ((crc >>> 8) ^ entry(first, crc)) >>> 0);
  const t1 = next(first);
  const t2 = next(t1);
  const t3 = next(t2);
  const t4 = next(t3);
  const t5 = next(t4);
  const t6 = next(t5);
  return [first, t1, t2, t3, t4, t5, t6, next(t6)];
}
