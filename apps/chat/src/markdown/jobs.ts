/** What the page asks of the text worker. One job at a time; an answer is for the job before it. */
import type { HighlightNode, MathElement, ParsedText, References } from "./nodes.ts";

export interface Jobs {
  readonly parse: { readonly text: string; readonly references: References; readonly unfinished: boolean };
  readonly highlight: { readonly language: string; readonly code: string };
  readonly math: { readonly tex: string; readonly display: boolean };
}

export interface Results {
  readonly parse: ParsedText;
  /** Lines in parts, as `linesOf` cuts them; null where the language is not known. */
  readonly highlight: readonly (readonly HighlightNode[])[] | null;
  readonly math: MathElement;
}

export type JobName = keyof Jobs;
export type Job = { readonly [Name in JobName]: { readonly name: Name; readonly job: Jobs[Name] } }[JobName];
export type WorkerAnswer = "ready" | { readonly result: unknown } | { readonly error: string };
