/** What a person sees before the model answers: what will happen, whether it can, how far it is, and what to do when it does not work. */
import { sourceName } from "@shoal/web";
import type { AppState } from "../appState.ts";
import { isEmbedded } from "../modelState.ts";
import { Asking } from "../models/Asking.tsx";
import { Failure } from "../models/Failure.tsx";
import { DownloadView, LoadView } from "../models/Progress.tsx";
import "../styles/models.css";

export function FirstMinute({ app }: { readonly app: AppState }) {
  const { model, backends, swarm, view } = app;
  const phase = model.phase.value;
  const source = model.source.value;
  const from = source.kind === "files" ? "is read from this machine" : "is downloaded once";
  if (backends.choice.value.kind === "swarm")
    return (
      <section class="first-minute" aria-labelledby="first-title">
        <h1 id="first-title">Chat over a swarm</h1>
        {swarm.phase.value.name === "entering" && <p role="status">Entering the swarm…</p>}
        {swarm.phase.value.name === "failed" && <p role="alert">{swarm.phase.value.message}</p>}
        <div class="choices">
          <button type="button" class="primary" onClick={() => view.show("swarm")}>
            See the swarm
          </button>
          <button type="button" onClick={() => void backends.useDevice()}>
            Use this device alone
          </button>
        </div>
      </section>
    );
  return (
    <section class="first-minute" aria-labelledby="first-title">
      <h1 id="first-title">Chat on your own GPU</h1>
      <p class="lead">
        {isEmbedded(source) ? "A small language model" : sourceName(source)} {from}, runs in this page, and nothing you write leaves your
        machine.
      </p>
      {phase.name === "idle" && (
        <button type="button" class="primary" onClick={() => void model.begin()}>
          Look at my GPU
        </button>
      )}
      {phase.name === "checking" && <p role="status">Looking at your GPU…</p>}
      {phase.name === "asking" && <Asking app={app} check={phase.check} />}
      {phase.name === "downloading" && (
        <DownloadView progress={phase.progress} bytesPerSecond={phase.bytesPerSecond} promised={model.promised.value}>
          <button type="button" onClick={() => model.pause()}>
            Pause
          </button>
        </DownloadView>
      )}
      {phase.name === "paused" && (
        <DownloadView progress={phase.progress} promised={model.promised.value}>
          <button type="button" class="primary" onClick={() => void model.download()}>
            Resume
          </button>
        </DownloadView>
      )}
      {phase.name === "loading" && <LoadView progress={phase.progress} />}
      {phase.name === "given-away" && (
        <>
          <p role="status">Another tab uses the GPU now. This one freed it.</p>
          <button type="button" class="primary" onClick={() => void model.begin()}>
            Start here again
          </button>
        </>
      )}
      {phase.name === "failed" && <Failure app={app} phase={phase} />}
    </section>
  );
}
