/**
 * How models of the family write tool calls. Two layouts share their marks, which are single tokens in the published vocabularies:
 *
 *     v3 (V3, R1)   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>
 *     v3.1          <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>
 *
 * Further calls follow a line break in v3, and nothing in v3.1. Sources: the templates of tokenizer_config.json in deepseek-ai/DeepSeek-V3, -R1 and -V3.1.
 */

export type ToolFormat = "v3" | "v3.1";

export const toolMarks = {
  callsBegin: "<｜tool▁calls▁begin｜>",
  callsEnd: "<｜tool▁calls▁end｜>",
  callBegin: "<｜tool▁call▁begin｜>",
  callEnd: "<｜tool▁call▁end｜>",
  separator: "<｜tool▁sep｜>",
} as const;

/** What a model writes around parts of its answer: tags of its reasoning, marks of its calls. */
export const answerMarks: readonly string[] = ["<think>", "</think>", ...Object.values(toolMarks)];

export const toolOutputMarks = {
  outputsBegin: "<｜tool▁outputs▁begin｜>",
  outputsEnd: "<｜tool▁outputs▁end｜>",
  outputBegin: "<｜tool▁output▁begin｜>",
  outputEnd: "<｜tool▁output▁end｜>",
} as const;

/** What stands around the arguments of one call, and between two calls. */
export interface CallLayout {
  /** Up to the arguments. */
  readonly begin: string;
  /** From the arguments on; white space before each of its parts may be more or less. */
  readonly end: readonly string[];
  readonly between: string;
}

export function callLayout(format: ToolFormat, name: string): CallLayout {
  const { callBegin, callEnd, separator } = toolMarks;
  if (format === "v3.1") return { begin: `${callBegin}${name}${separator}`, end: [callEnd], between: "" };
  return { begin: `${callBegin}function${separator}${name}\n\`\`\`json\n`, end: ["```", callEnd], between: "\n" };
}
