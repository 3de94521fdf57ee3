/** A peer's answers to a stage that it may hold experts for. What it is asked is bounded before anything is loaded; of the shard it answers nothing but calls. */
import { ClusterError, type FrameChannel, ShardServer, answerCalls, parsed } from "@shoal/cluster";
import type { ExpertShard } from "@shoal/model";
import type { LayerRange } from "../plan/range.ts";
import { HELP_TARGET, type HeldExperts, type Offer, SHARD_TARGET, holdCall, offerCall, probeCall } from "./messages.ts";

export interface HelperPortOptions {
  readonly channel: FrameChannel;
  readonly offer: (gap: LayerRange) => Offer | Promise<Offer>;
  /** Loads them in place of those that it loaded before. */
  readonly hold: (held: HeldExperts) => Promise<ExpertShard>;
}

export function serveHelp({ channel, offer, hold }: HelperPortOptions): void {
  let shard: Promise<ExpertShard> | undefined;
  const help = (method: string, body: unknown): unknown => {
    switch (method) {
      case "offer":
        return offer(parsed(offerCall, method, body).gap);
      case "probe":
        parsed(probeCall, method, body);
        return null;
      case "hold": {
        const held = parsed(holdCall, method, body);
        const before = shard;
        const holding = (async (): Promise<ExpertShard> => {
          await before?.catch(() => undefined);
          return hold(held);
        })();
        shard = holding;
        return holding.then(() => null);
      }
      default:
        throw new ClusterError("refused", `Cannot call '${method}': a helper has no such method`);
    }
  };
  answerCalls(channel, (target, method, body) => {
    if (target === HELP_TARGET) return help(method, body);
    // Whoever loaded it lets go of it.
    if (target !== SHARD_TARGET || (method !== "run" && method !== "describe"))
      throw new ClusterError("refused", `Cannot call '${method}' of object ${target}: there is no such method`);
    if (!shard) throw new ClusterError("refused", `Cannot call '${method}': no experts are held`);
    return shard.then((loaded) => new ShardServer(loaded).dispatch(target, method, body));
  });
}
