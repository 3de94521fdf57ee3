/** Lines between stages of one thread. */
import { memoryChannel } from "../../src/channels/memory.ts";
import type { Lines } from "../../src/stage/handing.ts";
import type { FrameChannel } from "../../src/wire/channel.ts";

/** @param onChannel gets both ends of every line, for whoever wants to break it */
export function memoryLines(onChannel: (ends: readonly [FrameChannel, FrameChannel]) => void = () => undefined): Lines {
  const listening = new Map<string, (channel: FrameChannel) => void>();
  let next = 0;
  return {
    async listen() {
      const address = `line ${next++}`;
      const channel = new Promise<FrameChannel>((resolve) => listening.set(address, resolve));
      return { address, channel, close: () => void listening.delete(address) };
    },
    async connect(address) {
      const accept = listening.get(address);
      if (!accept) throw new RangeError(`Nobody listens at ${address}`);
      listening.delete(address);
      const ends = memoryChannel();
      onChannel(ends);
      accept(ends[0]);
      return ends[1];
    },
  };
}
