// Writes model/manifest.json: every file of the checkpoint with its size in bytes and SHA-256. Run it after a file there changes.
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";

const modelUrl = new URL("../model/", import.meta.url);
const names = (await readdir(modelUrl)).filter((name) => name !== "manifest.json").toSorted();
const manifest = {};
for (const name of names) {
  const bytes = await readFile(new URL(name, modelUrl));
  manifest[name] = { bytes: bytes.byteLength, sha256: createHash("sha256").update(bytes).digest("hex") };
}
await writeFile(new URL("manifest.json", modelUrl), `${JSON.stringify(manifest, null, 2)}\n`);
