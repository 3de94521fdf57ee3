/**
 * A stage that can be watched while it works: now and then a step also tells which experts its tokens chose. While nobody watches, nothing is added to a step.
 */
import type { Batch, RoutingCapture, Stage, StepOutput } from "@shoal/model";
import type { LayerRouting, RoutingView } from "./protocol.ts";

export interface ObservedExperts {
  readonly nRoutedExperts: number;
  readonly nActivatedExperts: number;
}

/** Between two steps that are looked at: such a step waits until its routing has been read, which others need not. Milliseconds. */
const EVERY_MS = 200;

export class StageObserver {
  /** The stage, watched. */
  readonly stage: Stage;
  readonly #experts: ObservedExperts;
  readonly #now: () => number;
  #watching = false;
  #lookedAt = -Infinity;
  #tokens = 0;
  readonly #layers = new Map<number, LayerRouting>();

  constructor(stage: Stage, experts: ObservedExperts, now: () => number = () => performance.now()) {
    this.#experts = experts;
    this.#now = now;
    const forward = (batch: Batch): Promise<StepOutput> => this.#forward(stage, batch);
    this.stage = new Proxy(stage, {
      get(target, name) {
        if (name === "forward") return forward;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
  }

  watch(on: boolean): void {
    this.#watching = on;
  }

  /** What was seen since the last call. */
  take(): RoutingView | undefined {
    if (this.#tokens === 0) return undefined;
    const view = { tokens: this.#tokens, layers: [...this.#layers.values()] };
    this.#tokens = 0;
    this.#layers.clear();
    return view;
  }

  async #forward(stage: Stage, batch: Batch): Promise<StepOutput> {
    const now = this.#now();
    if (!this.#watching || now - this.#lookedAt < EVERY_MS) return stage.forward(batch);
    this.#lookedAt = now;
    const output = await stage.forward({ ...batch, capture: { ...batch.capture, routing: true } });
    this.#add(output.routing ?? []);
    return output;
  }

  #add(routing: readonly RoutingCapture[]): void {
    const { nRoutedExperts, nActivatedExperts } = this.#experts;
    for (const { layer, indices } of routing) {
      const counts = this.#layers.get(layer)?.counts ?? new Uint32Array(nRoutedExperts);
      for (const index of indices) if (index >= 0 && index < nRoutedExperts) counts[index] = (counts[index] ?? 0) + 1;
      this.#layers.set(layer, { layer, counts, last: indices.slice(-nActivatedExperts) });
    }
    this.#tokens += (routing[0]?.indices.length ?? 0) / nActivatedExperts;
  }
}
