/** The server's API over a checkpoint's texts and whatever engine computes its tokens. */
import { type Api, createApi } from "@shoal/api";
import type { CheckpointSource } from "@shoal/checkpoint";
import { type Engine, stopTokenIds } from "@shoal/engine";
import { type ConstraintSource, GrammarConstraints, spawnGrammarWorker, vocabularyOf } from "@shoal/engine/constrained";
import { answerMarks, loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";
import { WebError } from "./errors.ts";

/** An answer of a slow device may take its time, and nobody else waits for it. Timers hold no more than this. */
const TIMEOUT_MS = 2 ** 31 - 1;

export interface ChatApiOptions {
  /** As requests name the model. */
  readonly name: string;
  readonly checkpoint: Pick<CheckpointSource, "config" | "tokenizerJson" | "tokenizerConfigJson" | "chatTemplate" | "generationConfig">;
  readonly openEngine: (constraints: ConstraintSource) => Promise<Engine>;
  /** Why an answer failed that failed for no fault of its request. */
  readonly onFault: (fault: string) => void;
}

export interface ChatApi {
  readonly engine: Engine;
  readonly answer: Api;
  destroy(): void;
}

/** @throws WebError, and whatever the packages below throw */
export async function openChatApi({ name, checkpoint, openEngine, onFault }: ChatApiOptions): Promise<ChatApi> {
  const { config, tokenizerJson, tokenizerConfigJson, chatTemplate, generationConfig } = checkpoint;
  if (tokenizerJson === null) throw new WebError("SourceError", "Cannot chat with this model: it has no 'tokenizer.json', expected one");
  const tokenizer = loadTokenizer({ tokenizerJson, tokenizerConfigJson: tokenizerConfigJson ?? undefined });
  const template = loadChatTemplate(tokenizer, { source: chatTemplate ?? undefined });
  const stopIds = stopTokenIds(config, tokenizer);
  let grammars: GrammarConstraints | undefined;
  // Of most visits none is asked for: the vocabulary is prepared, and the compiler of grammars fetched, with the first.
  const constraints: ConstraintSource = {
    open: (constraint, hearer) => {
      grammars ??= new GrammarConstraints({
        spawn: spawnGrammarWorker,
        vocabulary: vocabularyOf(tokenizer, { size: config.vocabSize, stopTokenIds: stopIds, marks: answerMarks }),
      });
      return grammars.open(constraint, hearer);
    },
  };
  const engine = await openEngine(constraints);
  const answer = createApi({
    engine,
    tokenizer,
    template,
    model: {
      id: name,
      vocabSize: config.vocabSize,
      stopTokenIds: stopIds,
      recommended: generationConfig,
      created: Math.floor(Date.now() / 1000),
    },
    limits: { timeoutMs: TIMEOUT_MS },
    onRequest: ({ fault }) => {
      if (fault !== undefined)
        onFault(fault instanceof Error ? `${fault.name}: ${fault.message}` : "Something that is no error was thrown");
    },
  });
  return { engine, answer, destroy: () => grammars?.destroy() };
}
