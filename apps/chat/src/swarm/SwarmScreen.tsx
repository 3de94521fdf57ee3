/** A swarm: in by an invite, what this device gives, who is there, what is missing. */
import { useEffect } from "preact/hooks";
import type { AppState } from "../appState.ts";
import { ContributionPart, MemoryField } from "./ContributionPart.tsx";
import { Coverage } from "./Coverage.tsx";
import { Kept } from "./Kept.tsx";
import { PeerTable } from "./PeerTable.tsx";
import "../styles/swarm.css";

export function SwarmScreen({ app }: { readonly app: AppState }) {
  const { swarm } = app;
  const phase = swarm.phase.value;
  const isIn = phase.name === "in";
  useEffect(() => (isIn ? swarm.watch() : undefined), [isIn, swarm]);
  return (
    <div class="models swarm">
      <p class="notice-line">
        <strong>Peers can see what passes through them.</strong> Links are encrypted, but the machines at their ends compute with what comes
        out: whoever runs one can read and keep prompts and answers, and can answer wrongly. Use a swarm with people to whom you would show
        your conversations.
      </p>
      {phase.name === "in" ? <Inside app={app} /> : <Outside app={app} />}
      <Kept inUse={isIn} />
    </div>
  );
}

function Outside({ app }: { readonly app: AppState }) {
  const { swarm, backends, view } = app;
  const phase = swarm.phase.value;
  const invite = swarm.invite.value.trim();
  const busy = phase.name === "entering";
  const enter = async (contributes: boolean): Promise<void> => {
    await backends.useSwarm(invite);
    if (swarm.phase.value.name !== "in") return;
    if (contributes) await swarm.contribute();
    else view.show("chat");
  };
  return (
    <section aria-labelledby="swarm-enter">
      <h2 id="swarm-enter">Enter a swarm</h2>
      <p>
        Machines that cannot run a model alone run it together: each holds some of its layers. Whoever has the invite is in, so treat it
        like a password.
      </p>
      <form
        class="model-form"
        onSubmit={(event) => {
          event.preventDefault();
          void enter(false);
        }}
      >
        <input
          type="text"
          aria-label="Invite"
          placeholder="shoal:…"
          autocomplete="off"
          spellcheck={false}
          disabled={busy}
          value={swarm.invite.value}
          onInput={({ currentTarget }) => (swarm.invite.value = currentTarget.value)}
        />
        <MemoryField swarm={swarm} />
        <div class="choices">
          <button type="submit" class="primary" disabled={busy || invite === ""}>
            Chat over it
          </button>
          <button type="button" disabled={busy || invite === "" || swarm.memoryBytes === undefined} onClick={() => void enter(true)}>
            Join and lend this GPU
          </button>
          {busy && (
            <button type="button" onClick={() => void swarm.leave()}>
              Cancel
            </button>
          )}
        </div>
      </form>
      {busy && <p role="status">Entering: looking for the relay, the peers and the model’s list of files…</p>}
      {phase.name === "failed" && <p role="alert">{phase.message}</p>}
    </section>
  );
}

function Inside({ app }: { readonly app: AppState }) {
  const { swarm, backends } = app;
  const view = swarm.view.value;
  if (!view) return <p role="status">Looking who is there…</p>;
  return (
    <>
      <section aria-labelledby="swarm-now">
        <h2 id="swarm-now">{view.model}</h2>
        <p role="status">{verdict(view)}</p>
        <Coverage view={view} />
        <p class="quiet">
          {view.peers.length} {view.peers.length === 1 ? "peer holds" : "peers hold"} layers, {view.clients}{" "}
          {view.clients === 1 ? "other uses" : "others use"} the swarm.
          {view.tokensPerSecond !== null && ` This page’s answers: ${view.tokensPerSecond.toFixed(1)} tokens/s.`}
        </p>
        <div class="choices">
          {backends.choice.value.kind !== "swarm" && (
            <button type="button" class="primary" onClick={() => void backends.useSwarm(swarm.invite.value)}>
              Chat over it
            </button>
          )}
          <button type="button" onClick={() => void backends.leaveSwarm()}>
            Leave the swarm
          </button>
        </div>
      </section>
      <ContributionPart swarm={swarm} view={view} />
      {view.peers.length > 0 && <PeerTable view={view} />}
      {view.events.length > 0 && (
        <section aria-labelledby="swarm-events">
          <h2 id="swarm-events">What happened</h2>
          <ul class="swarm-events">
            {view.events.map((event, index) => (
              <li key={index}>{event}</li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function verdict({
  isComplete,
  missing,
  nLayers,
}: {
  readonly isComplete: boolean;
  readonly missing: readonly number[];
  readonly nLayers: number;
}) {
  if (isComplete) return `All ${nLayers} layers are held: it answers.`;
  if (missing.length === 0) return "Every layer is held, but no path leads through them yet: somebody has to hold what lies between.";
  return `It cannot answer yet. Missing: ${missing.length === 1 ? "layer" : "layers"} ${ranges(missing)} of ${nLayers}.`;
}

function ranges(layers: readonly number[]): string {
  const found: { first: number; last: number }[] = [];
  for (const layer of layers) {
    const current = found.at(-1);
    if (current?.last === layer - 1) current.last = layer;
    else found.push({ first: layer, last: layer });
  }
  return found.map(({ first, last }) => (first === last ? String(first) : `${first}–${last}`)).join(", ");
}
