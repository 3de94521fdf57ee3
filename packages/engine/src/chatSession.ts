/**
 * A conversation as text, on top of a generator of tokens: keeps the messages, makes each turn's prompt by the model's template, and gives the answer out as it
 * comes. A turn that fails leaves the conversation as it was; one that is stopped keeps what was said so far.
 */
import { type ChatMessage, type ChatTemplate, IncrementalDetokenizer, type Tokenizer } from "@shoal/tokenizer";
import type { SamplingParameters } from "@shoal/model";
import type { GenerationRequest, GenerationResult, TokenGenerator } from "./generation.ts";

export interface ChatSessionOptions {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly generator: TokenGenerator;
  readonly stopTokenIds: readonly number[];
  /** The system message: stays when the conversation is cleared. */
  readonly system?: string | undefined;
}

export interface SendOptions {
  readonly maxNewTokens: number;
  readonly sampling: SamplingParameters;
  readonly onText?: ((text: string) => void) | undefined;
  readonly onPrefill?: GenerationRequest["onPrefill"];
  readonly signal?: AbortSignal | undefined;
}

export interface ChatTurn extends GenerationResult {
  readonly text: string;
}

export class ChatSession {
  readonly #options: ChatSessionOptions;
  #messages: ChatMessage[] = [];

  constructor(options: ChatSessionOptions) {
    this.#options = options;
    this.clear();
  }

  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** Ends the conversation and starts another. */
  clear(): void {
    const { system } = this.#options;
    this.#messages = system === undefined ? [] : [{ role: "system", content: system }];
  }

  /** The ids that `send` would run: for checks of their number before a model is loaded. */
  promptIds(text: string): readonly number[] {
    return this.#options.template.encodeChat([...this.#messages, { role: "user", content: text }], { addGenerationPrompt: true });
  }

  async send(text: string, { maxNewTokens, sampling, onText, onPrefill, signal }: SendOptions): Promise<ChatTurn> {
    const { tokenizer, generator, stopTokenIds } = this.#options;
    const promptIds = this.promptIds(text);
    const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens: true });
    let answer = "";
    const give = (piece: string): void => {
      answer += piece;
      if (piece !== "") onText?.(piece);
    };
    const onTokens = (ids: readonly number[]): void => give(ids.map((id) => detokenizer.push(id)).join(""));
    const keep = (): void => {
      this.#messages = [...this.#messages, { role: "user", content: text }, { role: "assistant", content: answer }];
    };
    try {
      const result = await generator.generate({ promptIds, maxNewTokens, sampling, stopTokenIds, onTokens, onPrefill, signal });
      give(detokenizer.finish());
      keep();
      return { ...result, text: answer };
    } catch (error) {
      if (signal?.aborted === true && answer !== "") keep();
      throw error;
    }
  }
}
