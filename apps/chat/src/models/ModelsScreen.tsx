/** The models of this device: which one runs, which are kept and what they take, and where others come from. */
import { useSignal } from "@preact/signals";
import {
  type DeviceFacts,
  type Fit,
  KNOWN_MODELS,
  type ModelSource,
  type StoredModel,
  deleteModel,
  fitOf,
  sourceName,
  sourceOf,
  storedModels,
} from "@shoal/web";
import { useEffect } from "preact/hooks";
import type { AppState } from "../appState.ts";
import { FirstMinute } from "../components/FirstMinute.tsx";
import { formatBytes } from "../format.ts";
import { EMBEDDED, isEmbedded } from "../modelState.ts";
import { FolderPicker } from "./FolderPicker.tsx";

interface Room {
  readonly models: readonly StoredModel[];
  readonly usage: number | undefined;
  readonly quota: number | undefined;
  readonly persisted: boolean;
}

export function ModelsScreen({ app }: { readonly app: AppState }) {
  const { model, chat } = app;
  const room = useSignal<Room | null>(null);
  const problem = useSignal<string | null>(null);
  const look = async (): Promise<void> => {
    const models = await storedModels().catch(() => []);
    const { usage, quota } = await navigator.storage.estimate();
    room.value = { models, usage, quota, persisted: await navigator.storage.persisted() };
  };
  const phase = model.phase.value.name;
  useEffect(() => void look(), [phase]);
  const use = (source: ModelSource): void => {
    problem.value = null;
    chat.show(null);
    void app.backends.useDevice(source);
  };
  const remove = async ({ id, name, bytes }: StoredModel): Promise<void> => {
    if (!confirm(`Delete ${name} (${formatBytes(bytes)}) from this device?`)) return;
    problem.value = null;
    await deleteModel(id).catch((error: unknown) => (problem.value = error instanceof Error ? error.message : String(error)));
    await look();
  };
  const kept = room.value?.models ?? [];
  const current = sourceKey(model.source.value);
  const { quota, usage = 0 } = room.value ?? {};
  const facts: DeviceFacts = {
    storageBytes: quota === undefined ? null : Math.max(0, quota - usage),
    deviceMemory: (navigator as { readonly deviceMemory?: number }).deviceMemory ?? null,
    isSoftware: model.check.value?.isSoftware ?? null,
  };
  return (
    <div class="models">
      {problem.value !== null && <p role="alert">{problem.value}</p>}
      <section aria-labelledby="models-now">
        <h2 id="models-now">In use</h2>
        {phase === "ready" ? (
          <p>
            {isEmbedded(model.source.value) ? "The model of this page" : sourceName(model.source.value)} on {model.check.value?.adapter},
            about {formatBytes(model.check.value?.gpuBytes ?? 0)} of GPU memory.{" "}
            <button type="button" onClick={() => model.unload()}>
              Free the GPU
            </button>
          </p>
        ) : (
          <FirstMinute app={app} />
        )}
      </section>
      <section aria-labelledby="models-here">
        <h2 id="models-here">On this device</h2>
        {kept.length === 0 && <p class="quiet">None is kept yet.</p>}
        <ul class="model-list">
          {kept.map((one) => (
            <li key={one.id}>
              <span class="what">
                {isEmbedded(one.source) ? "The model of this page" : one.name}
                <small>
                  {one.complete ? formatBytes(one.bytes) : `${formatBytes(one.bytes)} of ${formatBytes(one.totalBytes)} so far`}
                </small>
              </span>
              {(sourceKey(one.source) !== current || phase !== "ready") && (
                <button type="button" onClick={() => use(one.source)}>
                  {one.complete ? "Use" : "Go on"}
                </button>
              )}
              <button type="button" class="danger" aria-label={`Delete ${one.name}`} onClick={() => void remove(one)}>
                Delete
              </button>
            </li>
          ))}
          {!kept.some(({ source }) => isEmbedded(source)) && (
            <li>
              <span class="what">
                The model of this page
                <small>not kept yet</small>
              </span>
              <button type="button" onClick={() => use(EMBEDDED)}>
                Use
              </button>
            </li>
          )}
        </ul>
        {room.value && <RoomLine room={room.value} onAsked={() => void look()} />}
      </section>
      <section aria-labelledby="models-more">
        <h2 id="models-more">Another model</h2>
        <p>
          A model of the DeepSeek V2 or V3 architecture as safetensors: the address of its folder, a repository of Hugging Face, or a folder
          of this machine. Nothing large is fetched before you have seen whether it fits.
        </p>
        <AddressForm onSource={use} onProblem={(text) => (problem.value = text)} />
        <FolderPicker onFiles={(name, files) => use({ kind: "files", name, files })} onProblem={(text) => (problem.value = text)} />
      </section>
      <section aria-labelledby="models-known">
        <h2 id="models-known">Known models of the family</h2>
        <ul class="model-list">
          {KNOWN_MODELS.map((known) => (
            <li key={known.repo}>
              <span class="what">
                {known.repo}
                <small>
                  {known.about}: {formatBytes(known.downloadBytes)} to download, about {formatBytes(known.gpuBytes)} of GPU memory.{" "}
                  {fitText(fitOf(known, facts), facts)}
                </small>
              </span>
              <button type="button" aria-label={`Check ${known.repo}`} onClick={() => use({ kind: "hub", repo: known.repo })}>
                Check
              </button>
            </li>
          ))}
        </ul>
      </section>
    </div>
  );
}

function RoomLine({ room: { usage, quota, persisted }, onAsked }: { readonly room: Room; readonly onAsked: () => void }) {
  const refused = useSignal(false);
  const ask = async (): Promise<void> => {
    refused.value = !(await navigator.storage.persist().catch(() => false));
    onAsked();
  };
  return (
    <>
      <p class="quiet">
        {usage !== undefined &&
          quota !== undefined &&
          `This site uses ${formatBytes(usage)} of the ${formatBytes(quota)} that the browser gives it. `}
        {persisted ? (
          "The browser keeps it until you delete it."
        ) : (
          <>
            The browser may drop it when the disk fills up.{" "}
            <button type="button" class="link" onClick={() => void ask()}>
              Ask it not to
            </button>
          </>
        )}
      </p>
      {refused.value && !persisted && (
        <p class="quiet" role="status">
          It made no promise. Browsers do so more readily for a page that is installed, bookmarked or often used; until then the model is
          downloaded again if it was dropped.
        </p>
      )}
    </>
  );
}

interface AddressFormProps {
  readonly onSource: (source: ModelSource) => void;
  readonly onProblem: (text: string | null) => void;
}

function AddressForm({ onSource, onProblem }: AddressFormProps) {
  const text = useSignal("");
  return (
    <form
      class="model-form"
      onSubmit={(event) => {
        event.preventDefault();
        onProblem(null);
        try {
          onSource(sourceOf(text.value));
        } catch (error) {
          onProblem(error instanceof Error ? error.message : String(error));
        }
      }}
    >
      <input
        type="text"
        aria-label="Address or repository"
        placeholder="https://… or organization/name"
        maxLength={2000}
        autocomplete="off"
        spellcheck={false}
        value={text.value}
        onInput={({ currentTarget }) => (text.value = currentTarget.value)}
      />
      <button type="submit" disabled={text.value.trim() === ""}>
        Check
      </button>
    </form>
  );
}

function fitText(fit: Fit, { storageBytes, deviceMemory }: DeviceFacts): string {
  switch (fit) {
    case "too-slow":
      return "Not for this device: a processor stands in for a GPU here, and is far too slow for it.";
    case "too-little-memory":
      return `Hardly for this device, whose memory is about ${formatBytes((deviceMemory ?? 0) * 2 ** 30)}.`;
    case "too-little-room":
      return `Does not fit into the ${formatBytes(storageBytes ?? 0)} that this browser has left.`;
    case "perhaps":
      return `${storageBytes === null ? "" : "This browser has room for it. "}Whether the GPU has the memory no browser tells.`;
  }
}

function sourceKey(source: ModelSource): string {
  return source.kind === "folder" ? source.url : source.kind === "hub" ? `hub ${source.repo}` : `files ${source.name}`;
}
