/** The one error that setup reports to a person: what could not be done, the end of the failed command's output, and what to do. */

export class SetupError extends Error {
  /** @override */
  name = "SetupError";

  /**
   * @param {string} message "Cannot <do what>: <what is>"
   * @param {{ output?: string, advice?: string, cause?: unknown }} [details] `output`: the failed command's last lines
   */
  constructor(message, { output = "", advice = "", cause } = {}) {
    super(message, { cause });
    this.output = output;
    this.advice = advice;
  }

  /** The message as it is printed, without a stack trace. */
  report() {
    const lines = [this.message];
    if (this.output !== "") lines.push(...this.output.split("\n").map((line) => `  | ${line}`));
    if (this.advice !== "") lines.push(this.advice);
    return lines.join("\n");
  }
}

/**
 * What to print for an error: a SetupError explains itself, anything else is a fault of ours and keeps its stack.
 * @param {unknown} error
 * @returns {string}
 */
export function reportText(error) {
  if (error instanceof SetupError) return error.report();
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
