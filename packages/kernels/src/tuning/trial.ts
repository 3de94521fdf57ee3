/**
 * Choices that a tuner changes between two recordings of the same work, and that hear what there was to choose from. So a tuner knows every operation by the key that
 * `chooseVariant` is called with, and every variant that there is, without a list of them that could fall behind.
 */

export interface Offer {
  /** Of all variants that the device can run. */
  readonly variants: readonly string[];
  /** What runs where nothing is chosen. */
  readonly preferred: string;
}

/** Given to a context as its `choices`. */
export class TrialChoices extends Map<string, string> {
  readonly #offers = new Map<string, Offer>();

  /** Called for every choice that was not asked for by name. */
  offer(operation: string, offer: Offer): void {
    this.#offers.set(operation, offer);
  }

  /** What was offered since the last call. */
  takeOffers(): ReadonlyMap<string, Offer> {
    const offers = new Map(this.#offers);
    this.#offers.clear();
    return offers;
  }
}
