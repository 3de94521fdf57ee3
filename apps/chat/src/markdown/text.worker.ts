/** Parses, highlights and typesets beside the page, so that no text, however hostile, keeps it from answering. Highlighting and formulas are fetched when first used. */
import { piecesOfLines } from "./codeLines.ts";
import type { Highlight } from "./highlight.ts";
import type { Job, WorkerAnswer } from "./jobs.ts";
import { createParser } from "./parse.ts";

const parse = createParser();
let highlighting: Promise<Highlight> | undefined;

async function run({ name, job }: Job): Promise<unknown> {
  switch (name) {
    case "parse":
      return parse(job.text, job);
    case "highlight": {
      highlighting ??= import("./highlight.ts").then(({ createHighlight }) => createHighlight());
      const pieces = (await highlighting)(job.language, job.code);
      return pieces && piecesOfLines(pieces);
    }
    case "math":
      return (await import("./math.ts")).renderMath(job.tex, job.display);
  }
}

function say(answer: WorkerAnswer): void {
  postMessage(answer);
}

addEventListener("message", ({ data }: MessageEvent<Job>) => {
  run(data).then(
    (result) => say({ result }),
    (error: unknown) => say({ error: error instanceof Error ? error.message : String(error) }),
  );
});
say("ready");
