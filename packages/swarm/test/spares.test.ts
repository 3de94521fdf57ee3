import { expect, test } from "vitest";
import type { Link } from "../src/link/link.ts";
import { StripedLink } from "../src/link/stripedLink.ts";
import { memoryLanes } from "../src/link/memoryLane.ts";
import { Spares } from "../src/pipeline/spares.ts";
import { SimulatedClock } from "./simulatedClock.ts";

function spares() {
  const clock = new SimulatedClock();
  const made: { readonly peer: string; readonly link: StripedLink }[] = [];
  const state = { fails: false };
  const connect = async (peer: string): Promise<Link> => {
    if (state.fails) throw new Error("out of reach");
    const link = new StripedLink({ remote: peer, clock });
    const [near, far] = memoryLanes({ clock });
    link.addLane(near);
    far.listen({ onFrame: () => {}, onClose: () => {}, onDrain: () => {} });
    made.push({ peer, link });
    return link;
  };
  return { clock, made, state, spares: new Spares({ connect, now: () => clock.now() }) };
}

test("a spare link is there before it is asked for, once, and is its taker's from then on", async () => {
  const { clock, made, spares: all } = spares();
  all.want(new Set(["a", "b"]));
  all.want(new Set(["a", "b"]));
  await clock.advance(10);
  expect(made.map(({ peer }) => peer)).toEqual(["a", "b"]);
  const taken = all.take("a");
  expect(taken).toBe(made[0]?.link);
  expect(all.take("a")).toBeUndefined();
  const ends: string[] = [];
  for (const { peer, link } of made) void link.closed.then(() => ends.push(peer));
  all.want(new Set());
  await clock.advance(10);
  expect(ends).toEqual(["b"]);
});

test("one that is lost is made again, one that cannot be made is not tried at every look, and one that comes too late is closed", async () => {
  const { clock, made, state, spares: all } = spares();
  all.want(new Set(["a"]));
  await clock.advance(10);
  made[0]?.link.close();
  await clock.advance(10);
  expect(all.take("a")).toBeUndefined();
  state.fails = true;
  all.want(new Set(["a"]));
  await clock.advance(1000);
  state.fails = false;
  all.want(new Set(["a"]));
  await clock.advance(10);
  expect(made).toHaveLength(1);
  await clock.advance(5000);
  all.want(new Set(["a"]));
  all.want(new Set());
  const ended = made.at(-1)?.link.closed;
  await clock.advance(10);
  expect(made).toHaveLength(2);
  await expect(ended).resolves.toMatchObject({ code: "closed" });
});
