import type { KnownPeer } from "@shoal/swarm";
import { expect, test } from "vitest";
import { statusText } from "./status.ts";

function peer(name: string, more: Partial<KnownPeer>): KnownPeer {
  return {
    peer: name,
    model: "",
    started: 1,
    number: 1,
    state: "serving",
    layers: null,
    memoryBytes: 1e9,
    stepMs: 12,
    load: 0,
    freeKvTokens: 256,
    tokensPerSecond: 0,
    rtts: {},
    kind: "deno",
    heardAt: 0,
    ...more,
  };
}

test("statusText() says who has which experts of which layers for whom, and who waits", () => {
  const experts = { layers: { begin: 2, end: 4 }, own: 4, helpers: [{ peer: "peer-helper-1", begin: 4, end: 32 }], wanted: true };
  const text = statusText({
    model: "tiny",
    nLayers: 6,
    missing: [4, 5],
    peers: [
      peer("peer-first-00", { layers: { begin: 0, end: 2 } }),
      peer("peer-stage-01", { layers: { begin: 2, end: 4 }, experts }),
      peer("peer-helper-1", { state: "helping" }),
      peer("peer-waiter-2", { state: "waiting" }),
      peer("peer-client-3", { state: "client" }),
    ],
  });
  const line = (name: string): string => text.split("\n").find((each) => each.startsWith(name)) ?? "";
  expect(text).toContain("2 peers, 1 clients; missing: layers 4-5");
  expect(line("peer-first-00")).not.toContain("experts");
  expect(line("peer-stage-01")).toContain("[..##..]  layers 2-3, serving");
  expect(line("peer-stage-01")).toContain("experts: its own 0-3, 4-31 on helper-1");
  expect(line("peer-helper-1")).toContain("helping, deno: experts 4-31 of layers 2-3 for stage-01");
  expect(line("peer-waiter-2")).toContain("waiting, deno: for a peer near by");
  expect(line("peer-client-3")).toBe("");
});
