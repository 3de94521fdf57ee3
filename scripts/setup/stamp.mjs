/**
 * Stamps under `.shoal/`: a step's stamp holds the fingerprint of what it was made from, and is written last, so that an interrupted step is
 * done again and a finished one costs a few file reads.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

/**
 * @param {string[]} parts
 * @returns {string}
 */
export function fingerprint(parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest("hex");
}

/**
 * @param {string} file
 * @returns {unknown} undefined when there is no usable stamp
 */
export function readStamp(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * @param {string} file
 * @param {unknown} value
 */
export function writeStamp(file, value) {
  mkdirSync(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  writeFileSync(partial, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(partial, file);
}

/** @param {string} file */
export function removeStamp(file) {
  rmSync(file, { force: true });
}
