/** A swarm's stages as they are over links: behind the wire of `@shoal/cluster`. */
import { type FrameChannel, memoryChannel, serveStage } from "@shoal/cluster";
import { expect, test } from "vitest";
import { openedOver } from "../src/member/client.ts";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import { FAKE, FakeStage } from "./fakeModel.ts";

interface Counted {
  readonly channel: FrameChannel;
  sent: number;
}

function counted(channel: FrameChannel): Counted {
  const counter: Counted = {
    channel: {
      closed: channel.closed,
      send: (frame) => {
        counter.sent++;
        channel.send(frame);
      },
      onFrame: (receive) => channel.onFrame(receive),
      close: (reason) => channel.close(reason),
    },
    sent: 0,
  };
  return counter;
}

test("a token costs one message to each peer, its tokens included, and is what one device gives", async () => {
  const counters: Counted[] = [];
  const ranges = [
    { begin: 0, end: 2 },
    { begin: 2, end: 5 },
    { begin: 5, end: 6 },
  ];
  const stage = await SwarmStage.open({
    ...FAKE,
    plan: () => ranges.map((layers, index) => ({ peer: `p${index}`, layers })),
    missing: () => [],
    open: async ({ peer, layers }) => {
      const [near, far] = memoryChannel();
      void serveStage(far, new FakeStage(layers));
      const counter = counted(near);
      counters.push(counter);
      return openedOver(counter.channel, peer, FAKE.hiddenSize, "f32");
    },
  });
  const reference = new FakeStage({ begin: 0, end: FAKE.nLayers });
  const sequence = await stage.open();
  const slot = await reference.open();
  const before = counters.map(({ sent }) => sent);
  let id = 5;
  for (let token = 0; token < 10; token++) {
    const { step } = await stage.forward({ entries: [{ sequence, tokens: [id] }], output: "sample" });
    const expected = await reference.forward({ entries: [{ sequence: slot, tokens: [id] }], output: "sample" });
    const told = await stage.sampled(step, 1);
    expect(told).toEqual(await reference.sampled(expected.step, 1));
    id = told[0]?.[0] ?? -1;
  }
  expect(counters.map(({ sent }, index) => sent - (before[index] ?? 0))).toEqual([10, 10, 10]);
  // Refused there, and refused here by the same name; what follows is not disturbed.
  await expect(stage.forward({ entries: [{ sequence, tokens: [500] }], output: "sample" })).rejects.toMatchObject({ code: "bad-batch" });
  const { step } = await stage.forward({ entries: [{ sequence, tokens: [id] }], output: "sample" });
  const expected = await reference.forward({ entries: [{ sequence: slot, tokens: [id] }], output: "sample" });
  expect(await stage.sampled(step, 1)).toEqual(await reference.sampled(expected.step, 1));
  await stage.destroy();
});
