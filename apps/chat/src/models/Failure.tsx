/** What went wrong, in a person's words, and what can be done: never nothing. */
import type { AppState } from "../appState.ts";
import type { Phase } from "../modelState.ts";
import { OtherWays } from "./OtherWays.tsx";

interface FailureProps {
  readonly app: AppState;
  readonly phase: Phase & { readonly name: "failed" };
}

export function Failure({ app, phase: { error, during, otherTabs } }: FailureProps) {
  const { model } = app;
  const [title, advice] = explain(error, during);
  const resumes = during === "download" && error.name === "DownloadError";
  return (
    <div role="alert" class="failure">
      <h2>{title}</h2>
      <p>{advice}</p>
      {otherTabs > 0 && <p>{otherTabs === 1 ? "Another tab has" : `${otherTabs} other tabs have`} a model on the GPU as well.</p>}
      <details>
        <summary>Details</summary>
        <p>
          {error.name}: {error.message}
        </p>
      </details>
      <div class="choices">
        {resumes ? (
          <button type="button" class="primary" onClick={() => void model.download()}>
            Go on
          </button>
        ) : (
          <button type="button" class="primary" onClick={() => void model.begin()}>
            Try again
          </button>
        )}
        {otherTabs > 0 && (
          <button type="button" onClick={() => void model.takeOver()}>
            Free the GPU there and start here
          </button>
        )}
        {during === "download" && model.check.value?.streams === true && (
          <button type="button" onClick={() => void model.stream()}>
            Run without keeping it
          </button>
        )}
        <OtherWays app={app} />
      </div>
    </div>
  );
}

function explain({ name }: Error, during: FailureProps["phase"]["during"]): readonly [title: string, advice: string] {
  switch (name) {
    case "NoAdapterError":
      return [
        "No WebGPU here",
        "Use a current Chrome, Edge, Safari or Firefox on a device with a GPU, with graphics acceleration turned on, over https. Or let a server answer.",
      ];
    case "QuotaError":
      return [
        "No room for the model",
        "The browser refused to keep more data for this site. Free some disk space or delete other models, leave private browsing, or run the model without keeping it.",
      ];
    case "DownloadError":
      if (during === "check") return ["The model cannot be reached", "Check its address and your connection, then try again."];
      return ["The download failed", "What has arrived is kept. Check your connection and go on from there."];
    case "AdapterLimitError":
    case "GpuOutOfMemoryError":
      return ["This GPU is too small", "Close other programs that use it, choose a smaller model, or let a server answer."];
    case "SourceError":
      return ["No model that can be used", "There is none of this family that this page may read. The details say what is wrong."];
    case "ConfigError":
    case "CheckpointError":
    case "ManifestError":
    case "TokenizerError":
    case "SafetensorsError":
      return ["This model cannot be used", "Its files are not those of a model of this family. The details say what is wrong."];
    default:
      return ["Something went wrong", "Trying again opens the GPU anew."];
  }
}
