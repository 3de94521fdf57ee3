export type { ConstraintHearer, ConstraintSource, OutputConstraint, OutputGrammar, TokenConstraint } from "./grammar.ts";
export { type TokenVocabulary, vocabularyOf } from "./vocabulary.ts";
export { GrammarConstraints } from "./tokenConstraint.ts";
export type { GrammarPort } from "./protocol.ts";
export { localGrammarPort } from "./localPort.ts";
export { spawnGrammarWorker, workerGrammarPort } from "./workerPort.ts";
