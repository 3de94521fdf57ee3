/** Stages that hand their outputs on by themselves: each to the next, and the last its tokens to the first. */
import { type Stage, isLoss } from "@shoal/model";
import { type HandingStage, handsOn } from "../stage/handing.ts";

export class Ring {
  readonly stages: readonly HandingStage[];
  #next = 0;

  private constructor(stages: readonly HandingStage[]) {
    this.stages = stages;
  }

  /** @returns undefined where stages cannot reach one another; then whoever runs them carries what is between them @throws PeerLostError */
  static async connect(stages: readonly Stage[]): Promise<Ring | undefined> {
    const all = stages.filter(handsOn);
    if (all.length < 2 || all.length < stages.length) return undefined;
    const ring = new Ring(all);
    const connected = await Promise.allSettled(
      all.map(async (stage, k) => {
        const next = all[(k + 1) % all.length];
        if (next) await stage.handTo(await next.listenFor(stage.peer));
      }),
    );
    const failures = connected.flatMap((each) => (each.status === "rejected" ? [each.reason as unknown] : []));
    if (failures.length === 0) return ring;
    await ring.end();
    const loss = failures.find(isLoss);
    if (loss !== undefined) throw loss;
    return undefined;
  }

  /** A number for what goes over the lines; they rise. */
  number(): number {
    return this.#next++;
  }

  /** Steps that wait for what will not come fail. */
  async end(): Promise<void> {
    await Promise.allSettled(this.stages.map((stage) => stage.unhand()));
  }
}
