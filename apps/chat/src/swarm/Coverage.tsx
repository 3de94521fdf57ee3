/** Which layers are held, and by how many. */
import type { SwarmView } from "@shoal/web/swarm";

const MAX_CELLS = 96;

export function Coverage({ view: { nLayers, peers } }: { readonly view: SwarmView }) {
  const cells = Math.min(MAX_CELLS, nLayers);
  const holders = (layer: number) =>
    peers.filter(({ state, layers: { begin, end } }) => state === "serving" && layer >= begin && layer < end);
  return (
    <div class="coverage" role="img" aria-label={`Layers held: ${peers.length === 0 ? "none" : spoken(nLayers, holders)}`}>
      {Array.from({ length: cells }, (_, cell) => {
        const layer = Math.floor((cell * nLayers) / cells);
        const held = holders(layer);
        const kind = held.length === 0 ? "none" : held.some(({ isSelf }) => isSelf) ? "own" : held.length === 1 ? "one" : "many";
        return <span key={cell} class={`cell ${kind}`} title={`Layer ${layer}: ${held.length} ${held.length === 1 ? "peer" : "peers"}`} />;
      })}
    </div>
  );
}

function spoken(nLayers: number, holders: (layer: number) => readonly unknown[]): string {
  const held = Array.from({ length: nLayers }, (_, layer) => layer).filter((layer) => holders(layer).length > 0);
  return `${held.length} of ${nLayers}`;
}
