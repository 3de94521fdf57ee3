/** Before anything large is fetched: what the device has, what the model takes, and what can be done where the two do not agree. */
import type { ModelCheck } from "@shoal/web";
import type { AppState } from "../appState.ts";
import { formatBytes } from "../format.ts";
import { OtherWays } from "./OtherWays.tsx";

export function Asking({ app, check }: { readonly app: AppState; readonly check: ModelCheck }) {
  const { model } = app;
  const { storageBytes, missingBytes, downloadBytes, gpuBytes, memory, limits, refusal, streams } = check;
  const noRoom = storageBytes !== null && storageBytes < missingBytes;
  const here = downloadBytes - missingBytes;
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
        <dd>
          {formatBytes(missingBytes)}
          {here > 0 && `, ${formatBytes(here)} are here already`}
        </dd>
        <dt>GPU memory</dt>
        <dd>
          about {formatBytes(gpuBytes)}
          <small>
            {formatBytes(memory.weights)} weights, {formatBytes(memory.kvCache)} for {check.contextTokens} tokens of context
          </small>
        </dd>
        <dt>Largest buffer</dt>
        <dd>
          {formatBytes(limits.maxStorageBufferBindingSize)} <small>how much memory a GPU has, browsers do not tell</small>
        </dd>
        <dt>Room in this browser</dt>
        <dd>{storageBytes === null ? "unknown" : formatBytes(storageBytes)}</dd>
      </dl>
      {refusal === null && !noRoom && <p role="status">As far as a browser can tell, the model fits this device.</p>}
      {refusal !== null && <p role="alert">This GPU is too small for the model. {refusal}</p>}
      {noRoom && (
        <p role="alert">
          The browser has too little room for the model: {formatBytes(missingBytes)} are to be kept, {formatBytes(storageBytes)} are free.
        </p>
      )}
      <div class="choices">
        {refusal === null && !noRoom && (
          <button type="button" class="primary" onClick={() => void model.download()}>
            Download and start
          </button>
        )}
        {refusal === null && noRoom && streams && (
          <button type="button" class="primary" onClick={() => void model.stream()}>
            Run without keeping it
          </button>
        )}
        {(refusal !== null || noRoom) && (
          <>
            <button type="button" onClick={() => void model.begin()}>
              Check again
            </button>
            <OtherWays app={app} />
          </>
        )}
      </div>
    </>
  );
}
