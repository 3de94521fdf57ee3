/** An engine that answers at once with the tokens of a text, one at a time, and keeps what it was asked. */
import type { ConstraintSource } from "@shoal/engine/constrained";
import type { EngineRequest, EngineResult, EngineStatus, GeneratedToken, InferenceEngine, RunningRequest } from "@shoal/engine";

export class FakeEngine implements InferenceEngine {
  readonly requests: EngineRequest[] = [];
  /** Answers under way. */
  running = 0;
  /** Awaited before every token. */
  pause: () => Promise<void> = async () => {};
  /** What an answer fails with. */
  refusal: Error | undefined;
  readonly #answer: readonly number[];
  readonly #finishReason: EngineResult["finishReason"];
  readonly #constraints: ConstraintSource | undefined;

  /** @param constraints refuse what cannot be followed; what can be is not */
  constructor(answer: readonly number[], finishReason: EngineResult["finishReason"] = "length", constraints?: ConstraintSource) {
    this.#answer = answer;
    this.#finishReason = finishReason;
    this.#constraints = constraints;
  }

  submit(request: EngineRequest): RunningRequest {
    this.requests.push(request);
    this.running++;
    const ids = this.#answer.slice(0, request.maxNewTokens);
    const stop = new AbortController();
    const signal = request.signal ? AbortSignal.any([request.signal, stop.signal]) : stop.signal;
    let resolve!: (result: EngineResult) => void;
    let reject!: (error: unknown) => void;
    const result = new Promise<EngineResult>((...settle) => ([resolve, reject] = settle));
    result.catch(() => {});
    let over = false;
    const end = (): void => {
      if (!over) this.running--;
      over = true;
    };
    signal.addEventListener("abort", () => {
      end();
      reject(signal.reason as Error);
    });
    const { pause, refusal } = this;
    const finishReason = this.#finishReason;
    const prepared = this.#prepare(request);
    prepared.catch(() => {});
    const { topLogprobs, promptLogprobs = false, promptIds } = request;
    const tell = (id: number): GeneratedToken =>
      topLogprobs === undefined
        ? { id }
        : { id, logprob: -id / 100, topLogprobs: Array.from({ length: topLogprobs }, (_, i) => ({ id: 10 + i, logprob: -i })) };
    const iterate = async function* (): AsyncGenerator<readonly GeneratedToken[], void, void> {
      try {
        if (refusal) throw refusal;
        await prepared;
        // In two parts, the second with the first token of the answer.
        const prompt = promptLogprobs ? promptIds.slice(1).map((id) => ({ ...tell(id), prompt: true as const })) : [];
        if (prompt.length > 2) yield prompt.splice(0, 2);
        for (const id of ids) {
          await pause();
          signal.throwIfAborted();
          yield [...prompt.splice(0), tell(id)];
        }
        const usage = { promptTokens: request.promptIds.length, cachedTokens: 0, completionTokens: ids.length };
        end();
        resolve({ finishReason, usage, timings: { queuedMs: 0, firstTokenMs: 0, decodeMs: 0 } });
      } finally {
        if (!over) stop.abort(new Error("left"));
      }
    };
    return { result, cancel: async (reason) => stop.abort(reason), [Symbol.asyncIterator]: iterate };
  }

  /** Until the first mask is there. */
  async #prepare({ constraint }: EngineRequest): Promise<void> {
    const source = this.#constraints;
    if (!constraint || !source) return;
    let close = (): void => {};
    try {
      await new Promise<void>((onMask, onError) => {
        const opened = source.open(constraint, { onMask, onError });
        close = () => opened.close();
      });
    } finally {
      close();
    }
  }

  status(): EngineStatus {
    const none = {
      promptTokens: 0,
      cachedTokens: 0,
      completionTokens: 0,
      preemptions: 0,
      steps: 0,
      draftTokens: 0,
      acceptedDraftTokens: 0,
    };
    const totals = { requests: this.requests.length, ...none };
    return { running: this.running, waiting: 0, maxSequences: 4, contextTokens: 512, kvBlocks: { total: 16, free: 16, cached: 0 }, totals };
  }

  async drain(): Promise<void> {}

  async close(): Promise<void> {}
}
