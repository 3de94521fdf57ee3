/** The embedded model: where its checkpoint lies, and what its files must be. */
export { tinyModelManifest, tinyModelUrl } from "./checkpoint.ts";
export type { TinyModelFile } from "./checkpoint.ts";
