/** Which experts were chosen lately, layer by layer: counts that fade, so that the picture follows the text. */
import type { LayerRouting } from "@shoal/web";

export interface LayerHeat {
  readonly layer: number;
  /** For each routed expert: 0 where it was not chosen lately, 1 for the layer's most used. */
  readonly heat: Float32Array<ArrayBuffer>;
  /** The experts of the last token. */
  readonly last: Int32Array<ArrayBuffer>;
}

/** What is left of older counts with each new view. */
const KEPT = 0.7;

export class ExpertHeat {
  readonly #sums = new Map<number, Float32Array<ArrayBuffer>>();

  add(layers: readonly LayerRouting[]): readonly LayerHeat[] {
    return layers.map(({ layer, counts, last }) => {
      const known = this.#sums.get(layer);
      const sums = known?.length === counts.length ? known : new Float32Array(counts.length);
      let most = 0;
      for (const [expert, count] of counts.entries()) {
        const sum = (sums[expert] ?? 0) * KEPT + count;
        sums[expert] = sum;
        most = Math.max(most, sum);
      }
      this.#sums.set(layer, sums);
      return { layer, heat: sums.map((sum) => (most > 0 ? sum / most : 0)), last };
    });
  }
}
