/** Weights of swarms that this browser keeps, so that joining again fetches nothing. */
import { useSignal } from "@preact/signals";
import { type StoredSwarm, deleteSwarm, storedSwarms } from "@shoal/web/swarm";
import { useEffect } from "preact/hooks";
import { formatBytes } from "../format.ts";

export function Kept({ inUse }: { readonly inUse: boolean }) {
  const kept = useSignal<readonly StoredSwarm[]>([]);
  const look = async (): Promise<void> => {
    kept.value = await storedSwarms().catch(() => []);
  };
  useEffect(() => void look(), [inUse]);
  if (kept.value.length === 0) return null;
  return (
    <section aria-labelledby="swarm-kept">
      <h2 id="swarm-kept">Kept in this browser</h2>
      <ul class="model-list">
        {kept.value.map(({ digest, name, bytes }) => (
          <li key={digest}>
            <span class="what">
              Weights of {name}
              <small>{formatBytes(bytes)}</small>
            </span>
            <button
              type="button"
              class="danger"
              aria-label={`Delete the weights of ${name}`}
              disabled={inUse}
              onClick={() => void deleteSwarm(digest).then(look)}
            >
              Delete
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
