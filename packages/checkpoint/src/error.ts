/**
 * The two error classes of this package. `ConfigError`: a config file says something impossible; `path` is the field. `CheckpointError`: the
 * files of a checkpoint are missing, unreadable or not what the config promises; `path` is the tensor or the file.
 */

export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly file: string;
  readonly path: string;
  readonly actual: string;
  readonly expected: string;

  constructor(file: string, path: string, actual: string, expected: string) {
    super(`Cannot use '${file}': ${path === "" ? "it" : path} ${actual}, expected ${expected}`);
    this.file = file;
    this.path = path;
    this.actual = actual;
    this.expected = expected;
  }
}

export type CheckpointErrorCode =
  | "location"
  | "missing-file"
  | "layout"
  | "missing-tensor"
  | "missing-scale"
  | "wrong-dtype"
  | "wrong-shape"
  | "unreadable";

export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
  readonly code: CheckpointErrorCode;
  readonly checkpoint: string;
  readonly path: string;
  readonly actual: string;
  readonly expected: string;

  constructor(code: CheckpointErrorCode, checkpoint: string, path: string, actual: string, expected: string, cause?: unknown) {
    super(`Cannot load '${checkpoint}': ${path} ${actual}, expected ${expected}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.checkpoint = checkpoint;
    this.path = path;
    this.actual = actual;
    this.expected = expected;
  }
}
