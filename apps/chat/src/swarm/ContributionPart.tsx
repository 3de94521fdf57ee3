/** What this device gives to the swarm. */
import type { ContributionView, SwarmView } from "@shoal/web/swarm";
import { formatBytes } from "../format.ts";
import type { SwarmState } from "./swarmState.ts";

interface ContributionPartProps {
  readonly swarm: SwarmState;
  readonly view: SwarmView;
}

export function ContributionPart({ swarm, view }: ContributionPartProps) {
  const { contribution } = view;
  const problem = swarm.problem.value ?? view.problem;
  return (
    <section aria-labelledby="swarm-own">
      <h2 id="swarm-own">This device</h2>
      {contribution ? (
        <>
          <p role="status">{whatItDoes(contribution)}</p>
          <p class="quiet">
            Up to {formatBytes(contribution.memoryBytes)} of its memory, while this page is open. {contribution.users}{" "}
            {contribution.users === 1 ? "link uses" : "links use"} it now.
          </p>
          <button type="button" disabled={contribution.phase.name === "leaving"} onClick={() => void swarm.stopContributing()}>
            Stop lending
          </button>
        </>
      ) : (
        <form
          class="model-form"
          onSubmit={(event) => {
            event.preventDefault();
            void swarm.contribute();
          }}
        >
          <MemoryField swarm={swarm} />
          <button type="submit" disabled={swarm.memoryBytes === undefined}>
            Lend this GPU
          </button>
        </form>
      )}
      {problem !== null && <p role="alert">{problem}</p>}
    </section>
  );
}

export function MemoryField({ swarm }: { readonly swarm: SwarmState }) {
  return (
    <label class="memory">
      Memory to lend, in GB
      <input
        type="number"
        min="0"
        step="any"
        value={swarm.gigabytes.value}
        onInput={({ currentTarget }) => (swarm.gigabytes.value = currentTarget.value)}
      />
    </label>
  );
}

function whatItDoes({ phase, fetchedBytes }: ContributionView): string {
  switch (phase.name) {
    case "choosing":
      return "Looking which layers the swarm needs most…";
    case "fetching":
      return `Fetching ${layersText(phase.layers)}: ${formatBytes(fetchedBytes)} came so far…`;
    case "loading":
      return `Loading ${layersText(phase.layers)} onto the GPU…`;
    case "serving":
      return `Serving ${layersText(phase.layers)}, ${phase.stepMs.toFixed(0)} ms a token${(phase.helpers ?? []).length > 0 ? ", with some of their experts on peers near by" : ""}.`;
    case "waiting":
      return `Waiting: ${phase.why}…`;
    case "helping":
      return `Holding experts ${phase.experts.begin}–${phase.experts.end - 1} of ${layersText(phase.layers)} for ${phase.peer.slice(-8)}.`;
    case "moving":
      return "Others hold its layers, and some are held by nobody: taking those…";
    case "leaving":
      return "Leaving: another may take its layers, and those who use it may finish…";
  }
}

function layersText({ begin, end }: { readonly begin: number; readonly end: number }): string {
  return end - begin === 1 ? `layer ${begin}` : `layers ${begin}–${end - 1}`;
}
