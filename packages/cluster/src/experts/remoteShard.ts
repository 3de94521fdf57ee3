/** An expert shard behind a channel, from both sides. */
import type { ExpertCall, ExpertShard, ExpertShardDescription } from "@shoal/model";
import { z } from "zod";
import { ClusterError } from "../errors.ts";
import type { RemoteTarget } from "../stage/remoteStage.ts";
import { Caller, type CallerOptions, type Dispatch, type Traffic, answerCalls, parsed } from "../wire/calls.ts";
import type { FrameChannel } from "../wire/channel.ts";
import { type ActivationFormat, Tensor, expectTensor } from "../wire/tensor.ts";
import { runBody, runOf, shardDescription } from "./messages.ts";

/** Serves a shard over a channel of its own. */
export function serveShard(channel: FrameChannel, shard: ExpertShard): void {
  answerCalls(channel, new ShardServer(shard).dispatch);
}

export class ShardServer {
  readonly #shard: ExpertShard;

  constructor(shard: ExpertShard) {
    this.#shard = shard;
  }

  readonly dispatch: Dispatch = (_target, method, body) => {
    switch (method) {
      case "describe":
        return this.#shard.describe();
      case "run":
        return this.#run(body);
      case "destroy":
        return this.#shard.destroy();
      default:
        throw new ClusterError("refused", `Cannot call '${method}': an expert shard has no such method`);
    }
  };

  async #run(body: unknown): Promise<Tensor> {
    const { call, activations } = runOf(body);
    const rows = await this.#shard.run(call);
    return new Tensor(rows, [call.tokens, rows.length / call.tokens], activations);
  }
}

export interface RemoteShardOptions extends CallerOptions {
  /** How rows and sums travel; f32 by default. */
  readonly activations?: ActivationFormat;
}

/** The shard that `serveShard` serves at the other end. */
export function remoteShard(channel: FrameChannel, options: RemoteShardOptions): RemoteExpertShard {
  return new RemoteExpertShard({ caller: new Caller(channel, options), target: 0 }, options);
}

export class RemoteExpertShard implements ExpertShard {
  readonly #caller: Caller;
  /** Its number at the other side. */
  readonly target: number;
  readonly #activations: ActivationFormat;

  constructor({ caller, target }: RemoteTarget, { activations = "f32" }: Pick<RemoteShardOptions, "activations"> = {}) {
    this.#caller = caller;
    this.target = target;
    this.#activations = activations;
  }

  get traffic(): Readonly<Traffic> {
    return this.#caller.traffic;
  }

  async describe(): Promise<ExpertShardDescription> {
    return parsed(shardDescription, "describe result", await this.#caller.call(this.target, "describe", null));
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    const result = await this.#caller.call(this.target, "run", runBody(call, this.#activations));
    const sums = parsed(z.instanceof(Tensor), "run result", result);
    return expectTensor("sums", sums, "f32", [call.tokens, call.x.length / call.tokens]);
  }

  async destroy(): Promise<void> {
    await this.#caller.call(this.target, "destroy", null);
  }
}
