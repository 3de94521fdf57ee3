/** What a person sees before the model answers: what will happen, whether it can, and how far it is. */
import type { ModelCheck } from "@shoal/web";
import { formatBytes, formatSeconds } from "../format.ts";
import type { AppState } from "../appState.ts";

export function FirstMinute({ app: { model } }: { readonly app: AppState }) {
  const phase = model.phase.value;
  return (
    <section class="first-minute" aria-labelledby="first-title">
      <h1 id="first-title">Chat on your own GPU</h1>
      <p class="lead">A small language model is downloaded once, runs in this page, and nothing you write leaves your machine.</p>
      {phase.name === "checking" && <p role="status">Looking at your GPU…</p>}
      {phase.name === "asking" && <Asking check={phase.check} onDownload={() => void model.download()} />}
      {phase.name === "downloading" && (
        <Progress progress={phase.progress} bytesPerSecond={phase.bytesPerSecond}>
          <button type="button" onClick={() => model.pause()}>
            Pause
          </button>
        </Progress>
      )}
      {phase.name === "paused" && (
        <Progress progress={phase.progress}>
          <button type="button" class="primary" onClick={() => void model.download()}>
            Resume
          </button>
        </Progress>
      )}
      {phase.name === "loading" && <p role="status">Loading the model onto your GPU…</p>}
      {phase.name === "failed" && <Failure error={phase.error} onRetry={() => void model.start()} />}
    </section>
  );
}

function Asking({ check, onDownload }: { readonly check: ModelCheck; readonly onDownload: () => void }) {
  const { storageBytes, missingBytes } = check;
  const noRoom = storageBytes !== null && storageBytes < missingBytes;
  return (
    <>
      <dl class="facts">
        <dt>Your GPU</dt>
        <dd>
          {check.adapter}
          {check.isSoftware ? " (software: slow)" : ""}
          {check.f16 ? "" : ", without f16"}
        </dd>
        <dt>Download</dt>
        <dd>{formatBytes(missingBytes)}</dd>
        <dt>GPU memory</dt>
        <dd>about {formatBytes(check.gpuBytes)}</dd>
        <dt>Room in this browser</dt>
        <dd>{storageBytes === null ? "unknown" : formatBytes(storageBytes)}</dd>
      </dl>
      {check.refusal !== null && <p role="alert">This GPU is too small for the model. {check.refusal}</p>}
      {noRoom && <p role="alert">The browser has too little room for the model: free some disk space, then reload.</p>}
      {check.refusal === null && !noRoom && (
        <button type="button" class="primary" onClick={onDownload}>
          Download and start
        </button>
      )}
    </>
  );
}

interface ProgressProps {
  readonly progress: { readonly bytes: number; readonly totalBytes: number } | null;
  readonly bytesPerSecond?: number;
  readonly children: preact.ComponentChildren;
}

function Progress({ progress, bytesPerSecond = 0, children }: ProgressProps) {
  const { bytes, totalBytes } = progress ?? { bytes: 0, totalBytes: 1 };
  const left = formatSeconds((totalBytes - bytes) / bytesPerSecond);
  return (
    <div class="progress">
      <progress aria-label="Download" value={bytes} max={totalBytes} />
      <p>
        {progress ? `${formatBytes(bytes)} of ${formatBytes(totalBytes)}` : "Checking what is here already…"}
        {bytesPerSecond > 0 && bytes < totalBytes && `, ${formatBytes(bytesPerSecond)}/s, ${left} left`}
      </p>
      {children}
    </div>
  );
}

function Failure({ error, onRetry }: { readonly error: Error; readonly onRetry: () => void }) {
  const [title, advice] = explain(error);
  return (
    <div role="alert" class="failure">
      <h2>{title}</h2>
      <p>{advice}</p>
      <details>
        <summary>Details</summary>
        <p>
          {error.name}: {error.message}
        </p>
      </details>
      <button type="button" class="primary" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

function explain({ name }: Error): readonly [string, string] {
  switch (name) {
    case "NoAdapterError":
      return [
        "No WebGPU here",
        "Use a current Chrome, Edge, Safari or Firefox on a device with a GPU, with graphics acceleration turned on, over https.",
      ];
    case "QuotaError":
      return [
        "No room for the model",
        "The browser refused to keep more data for this site. Free some disk space, or leave private browsing.",
      ];
    case "DownloadError":
      return ["The download failed", "What has arrived is kept. Check your connection and go on from there."];
    case "AdapterLimitError":
    case "GpuOutOfMemoryError":
      return ["This GPU is too small", "Close other programs that use it, or try another device."];
    default:
      return ["Something went wrong", "Trying again opens the GPU anew."];
  }
}
