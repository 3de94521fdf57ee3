/** Who holds layers, how far away, how fast, how busy. */
import type { PeerView, SwarmView } from "@shoal/web/swarm";
import { formatBytes } from "../format.ts";

export function PeerTable({ view: { peers, path } }: { readonly view: SwarmView }) {
  return (
    <section aria-labelledby="swarm-peers">
      <h2 id="swarm-peers">Peers</h2>
      <ul class="model-list">
        {peers.map((peer) => (
          <li key={peer.peer}>
            <span class="what">
              {peer.isSelf ? "This device" : peer.peer.slice(-8)}: {layersText(peer)}
              {path.includes(peer.peer) && <span class="on-path"> on this page’s path</span>}
              <small>{facts(peer)}</small>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function layersText({ layers: { begin, end } }: PeerView): string {
  return end - begin === 1 ? `layer ${begin}` : `layers ${begin}–${end - 1}`;
}

function facts({ kind, state, rttMs, link, stepMs, load, tokensPerSecond, freeKvTokens, memoryBytes, isSelf, helpers }: PeerView): string {
  const what = kind === "browser" ? "a browser" : "a program";
  const doing = { claiming: "loading", serving: "serving", leaving: "leaving" }[state];
  const shared = helpers.map((each) => `, experts ${each.begin}–${each.end - 1} on ${each.peer.slice(-8)}`).join("");
  const far = isSelf
    ? ""
    : rttMs === null
      ? ", distance not measured yet"
      : `, ${rttMs.toFixed(0)} ms away${link === "relay" ? " through the relay, slow" : ""}`;
  return `${what}, ${doing}${shared}${far}, ${stepMs.toFixed(0)} ms a token, ${tokensPerSecond.toFixed(1)} tokens/s now, ${Math.round(load * 100)} % busy, room for ${freeKvTokens} tokens, ${formatBytes(memoryBytes)} given`;
}
