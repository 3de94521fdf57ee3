/** Who may begin an answer: bounded over all clients by the engine's places and a queue, and for each client. */
import { ApiError, invalidField } from "./errors.ts";
import type { ApiLimits } from "./limits.ts";

export class Admission {
  readonly #limits: Pick<ApiLimits, "maxQueue" | "maxPerClient">;
  readonly #byClient = new Map<string, number>();
  #answers = 0;

  constructor(limits: Pick<ApiLimits, "maxQueue" | "maxPerClient">) {
    this.#limits = limits;
  }

  /** Answers under way, those that wait included. */
  get answers(): number {
    return this.#answers;
  }

  /**
   * @param places answers that the engine computes at once
   * @returns gives the answers back; further calls do nothing
   * @throws ApiError 429
   */
  enter(client: string, answers: number, places: number): () => void {
    const { maxQueue, maxPerClient } = this.#limits;
    const own = this.#byClient.get(client) ?? 0;
    const most = Math.min(maxPerClient, places + maxQueue);
    if (answers > most) throw invalidField("n", `Cannot use 'n': ${answers} answers are asked for, expected at most ${most} here`);
    if (own + answers > maxPerClient)
      throw busy(`Cannot take the request: ${own} answers are under way for this client, expected at most ${maxPerClient}`, "client_limit");
    if (this.#answers + answers > places + maxQueue)
      throw busy(`Cannot take the request: ${this.#answers} answers are under way, expected at most ${places + maxQueue}`, "queue_full");
    this.#answers += answers;
    this.#byClient.set(client, own + answers);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#answers -= answers;
      const rest = (this.#byClient.get(client) ?? 0) - answers;
      // Clients come and go: none may leave anything behind.
      if (rest > 0) this.#byClient.set(client, rest);
      else this.#byClient.delete(client);
    };
  }
}

function busy(message: string, code: string): ApiError {
  return new ApiError(message, { status: 429, type: "rate_limit_error", code, headers: { "retry-after": "1" } });
}
