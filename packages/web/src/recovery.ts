/** An answer goes on where it was when its device is lost: the tokens already out become part of the prompt of another device. */
import type { GenerationRequest, GenerationResult, TokenGenerator } from "@shoal/engine";

/** More than one loss in an answer is a device that cannot run it. */
const MAX_LOSSES = 2;

/** @param reopen a generator on a new device */
export async function generateThroughLoss(
  first: TokenGenerator,
  reopen: () => Promise<TokenGenerator>,
  request: GenerationRequest,
): Promise<GenerationResult> {
  const out: number[] = [];
  const onTokens = (ids: readonly number[]): void => {
    out.push(...ids);
    request.onTokens?.(ids);
  };
  let generator = first;
  for (let losses = 0; ;) {
    const before = out.length;
    try {
      const result = await generator.generate({
        ...request,
        promptIds: [...request.promptIds, ...out],
        maxNewTokens: request.maxNewTokens - before,
        onTokens,
      });
      if (losses === 0) return result;
      const timings = {
        ...result.timings,
        promptTokens: request.promptIds.length,
        cachedTokens: 0,
        generatedTokens: before + result.timings.generatedTokens,
      };
      return { ...result, ids: out, timings };
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "DeviceLostError" || ++losses > MAX_LOSSES) throw error;
      request.signal?.throwIfAborted();
      generator = await reopen();
      // The last token that was asked for is out: nothing is left to generate.
      if (out.length >= request.maxNewTokens) {
        const timings = {
          promptTokens: request.promptIds.length,
          cachedTokens: 0,
          generatedTokens: out.length,
          firstTokenMs: 0,
          decodeMs: 0,
        };
        return { ids: out, finishReason: "length", timings };
      }
    }
  }
}
