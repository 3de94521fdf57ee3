/**
 * The shipped checkpoint as a URL and a manifest. Knows no file format: a reader takes the URL as it takes any other directory.
 * In a page the bundler's output decides where the files end up; an app that copies them elsewhere passes its own URL to the reader.
 */
import manifest from "../model/manifest.json" with { type: "json" };

/** One file of the checkpoint. `bytes` is its size, `sha256` its digest in lower-case hex. */
export interface TinyModelFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** The checkpoint's directory, with a trailing slash: resolve file names against it. */
export const tinyModelUrl: URL = new URL("../model/", import.meta.url);

/** File name -> size and digest, for every file of the checkpoint except the manifest itself. */
export const tinyModelManifest: Readonly<Record<string, TinyModelFile>> = manifest;
