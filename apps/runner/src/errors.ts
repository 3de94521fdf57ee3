/**
 * Errors as a person on a terminal sees them: one message that begins with "shoal: Cannot", no stack trace unless asked for.
 */

/** The command line itself is wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** The command whose help would help. */
  readonly command: string | undefined;
  constructor(message: string, command?: string) {
    super(message);
    this.command = command;
  }
}

/** Something of this command's own failed: its worker died, its output could not be written. */
export class RunnerError extends Error {
  override readonly name = "RunnerError";
}

const HINTS: Readonly<Record<string, string>> = {
  "prompt-too-long": "use a shorter prompt, or a larger --context if the model allows it",
  "context-exceeded": "use a larger --context if the model allows it",
};

export function messageOf(error: unknown, verbose = false): string {
  const text = error instanceof Error ? error.message : String(error);
  const hint = isCoded(error) ? HINTS[error.code] : undefined;
  // Ours begin with "Cannot"; anything else is the platform's, and says its kind.
  const kind = error instanceof Error && error.name !== "Error" ? `${error.name}: ` : "";
  const sentence = text.startsWith("Cannot ") || error instanceof UsageError ? text : `Cannot go on: ${kind}${text}`;
  const help = error instanceof UsageError ? `\nSee 'shoal ${error.command === undefined ? "" : `${error.command} `}--help'` : "";
  const stack = verbose && error instanceof Error ? `\n${stackOf(error)}` : "";
  return `shoal: ${sentence}${hint === undefined ? "" : `; ${hint}`}${help}${stack}`;
}

function isCoded(error: unknown): error is { readonly code: string } {
  return typeof error === "object" && error !== null && "code" in error && typeof error.code === "string";
}

function stackOf(error: Error): string {
  const own = error.stack ?? `${error.name}: ${error.message}`;
  return error.cause instanceof Error ? `${own}\ncaused by ${stackOf(error.cause)}` : own;
}
