/** A swarm as a text: who is there, which layers they hold, what is missing. Pure. */
import type { KnownPeer } from "@shoal/swarm";

export interface SwarmReport {
  readonly model: string;
  readonly nLayers: number;
  readonly missing: readonly number[];
  readonly peers: readonly KnownPeer[];
}

const WIDTH = 48;

export function statusText({ model, nLayers, missing, peers }: SwarmReport): string {
  const serving = peers.filter(({ layers }) => layers !== null);
  const others = peers.filter(({ state }) => state === "waiting" || state === "helping");
  const lines = serving.map(({ peer, layers, state, stepMs, load, tokensPerSecond, freeKvTokens, kind, rtts, experts }) => {
    const { begin, end } = layers ?? { begin: 0, end: 0 };
    const nearest = Object.values(rtts).sort((a, b) => a - b)[0];
    const reach = nearest === undefined ? "" : `, nearest peer ${nearest.toFixed(0)} ms`;
    return `${peer}  ${bar(begin, end, nLayers)}  layers ${begin}-${end - 1}, ${state}, ${kind}, ${stepMs.toFixed(0)} ms a token, ${tokensPerSecond.toFixed(1)} tokens/s now, load ${load.toFixed(1)}, ${freeKvTokens} tokens free${reach}${shared(experts)}`;
  });
  const waiting = others.map(({ peer, state, kind }) => `${peer}  ${state}, ${kind}: ${whatFor(peer, state, peers)}`);
  const clients = peers.filter(({ state }) => state === "client").length;
  const verdict = missing.length === 0 ? "every layer is held" : `missing: layers ${ranges(missing)}`;
  return [`${model}, ${nLayers} layers: ${serving.length} peers, ${clients} clients; ${verdict}`, ...lines, ...waiting, ""].join("\n");
}

/** Who has experts of its layers, besides itself. */
function shared(experts: KnownPeer["experts"]): string {
  if (!experts || experts.helpers.length === 0) return "";
  const own = experts.own > 0 ? [`its own 0-${experts.own - 1}`] : [];
  return `, experts: ${[...own, ...experts.helpers.map(({ peer, begin, end }) => `${begin}-${end - 1} on ${peer.slice(-8)}`)].join(", ")}`;
}

/** What a peer without layers is there for. */
function whatFor(name: string, state: KnownPeer["state"], peers: readonly KnownPeer[]): string {
  const held = peers.flatMap(({ peer, experts }) =>
    (experts?.helpers ?? []).flatMap((helper) =>
      helper.peer === name && experts?.layers
        ? [`experts ${helper.begin}-${helper.end - 1} of layers ${experts.layers.begin}-${experts.layers.end - 1} for ${peer.slice(-8)}`]
        : [],
    ),
  );
  if (held.length > 0) return held.join("; ");
  return state === "helping" ? "experts for a peer that loads" : "for a peer near by that shares the experts of a layer";
}

/** Which part of the model: "[..####......]". */
function bar(begin: number, end: number, nLayers: number): string {
  const width = Math.min(WIDTH, nLayers);
  const cells = Array.from({ length: width }, (_, cell) => {
    const layer = Math.floor((cell * nLayers) / width);
    return layer >= begin && layer < end ? "#" : ".";
  });
  return `[${cells.join("")}]`;
}

function ranges(layers: readonly number[]): string {
  const found: { first: number; last: number }[] = [];
  for (const layer of layers) {
    const current = found.at(-1);
    if (current?.last === layer - 1) current.last = layer;
    else found.push({ first: layer, last: layer });
  }
  return found.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(", ");
}
