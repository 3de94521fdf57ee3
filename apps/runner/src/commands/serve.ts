/** `shoal serve`: an OpenAI-compatible server over one model, for many clients at once. */
import { readFile } from "node:fs/promises";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ExpertPaging, RequestRecord } from "@shoal/api";
import { type InferenceEngine, stopTokenIds } from "@shoal/engine";
import { GrammarConstraints, type TokenVocabulary, spawnGrammarWorker, vocabularyOf } from "@shoal/engine/constrained";
import type { StageDescription } from "@shoal/model";
import { answerMarks } from "@shoal/tokenizer";
import { pagingTotals } from "../chat/stats.ts";
import type { Command, Invocation } from "../command.ts";
import { RunnerError, UsageError, messageOf } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { type Prepared, startModel, withGpu } from "../gpu/session.ts";
import { type OpenModel, openModel, templateOf, tokenizerOf } from "../model/openModel.ts";
import { loadOptions } from "../model/runOptions.ts";
import { DEVICE, DEVICES, MODEL, RUN, SWARM, type Values } from "../options.ts";
import { openPage } from "../serve/page.ts";
import { RemoteEngine } from "../serve/remoteEngine.ts";
import { type Server, isLoopback, startServer } from "../serve/server.ts";

const DEFAULT_PORT = 8080;
const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_MAX_SEQUENCES = 8;
/** Full contexts that the KV cache holds at once, unless --max-sequences is less: chats are seldom full. */
const FULL_CONTEXTS = 4;
const DEFAULT_DRAIN_SECONDS = 60;
/** For clients to hear that their answers were cut off. */
const LAST_WORDS_MS = 500;
const MAX_KEY_BYTES = 4096;
/** Where `npm run -s build-page` puts it. */
const BUILT_PAGE = fileURLToPath(new URL("../../../chat/dist", import.meta.url));

export const serveCommand: Command = {
  name: "serve",
  summary: "answer OpenAI-compatible requests over HTTP, many at once",
  arguments: "[MODEL]",
  maxWords: 1,
  options: [
    "host",
    "port",
    "api-key-file",
    "cors",
    "max-sequences",
    "max-queue",
    "max-per-client",
    "drain-timeout",
    "log-prompts",
    "page",
    ...MODEL,
    ...RUN,
    ...DEVICE,
    ...DEVICES,
    ...SWARM,
  ],
  notes: [
    "POST /v1/chat/completions and /v1/completions, GET /v1/models, /health, /metrics, /openapi.json.",
    "The chat page is served at / where it was built (npm run -s build-page); pointed at this server it uses its model.",
    "Only this machine is answered, and needs no key. Any other --host needs one: in SHOAL_API_KEY, or in a file by --api-key-file.",
    "Each request is logged to standard error as a line of JSON, without its text. The first Ctrl-C or SIGTERM lets answers finish, the next one ends them.",
    `curl http://${DEFAULT_HOST}:${DEFAULT_PORT}/v1/chat/completions -H 'content-type: application/json' -d '{"messages":[{"role":"user","content":"What is the capital of France?"}]}'`,
  ],
  run: serve,
};

async function serve(invocation: Invocation): Promise<number> {
  const { values, words, interrupts } = invocation;
  const hostname = values.host ?? DEFAULT_HOST;
  const apiKey = await readKey(values);
  if (!isLoopback(hostname) && apiKey === undefined)
    throw new UsageError(
      `Cannot serve on '${hostname}' without an API key: everybody who reaches it could use the model, expected SHOAL_API_KEY or --api-key-file`,
    );
  if (values.swarm !== undefined) {
    const { withSwarm } = await import("../swarm/client.ts");
    return withSwarm(invocation, values.swarm, async ({ model, description, engine }) => {
      const tokenizer = tokenizerOf(model);
      const template = templateOf(model, tokenizer);
      const constraints = new GrammarConstraints({ spawn: spawnGrammarWorker, vocabulary: vocabulary({ model, tokenizer }) });
      try {
        return await answerRequests(invocation, apiKey, {
          model,
          tokenizer,
          template,
          stage: description,
          engine: await engine(constraints),
        });
      } finally {
        constraints.destroy();
      }
    });
  }
  return withGpu(async (client) => {
    const started = await startModel(client, invocation, () => prepare(values, words[0], interrupts.signal));
    const engine = new RemoteEngine(client, await client.openEngine(vocabulary(started), interrupts.signal));
    const paging = async (): Promise<readonly ExpertPaging[]> => (await client.paging()).map(pagingTotals);
    return answerRequests(invocation, apiKey, { ...started, engine, paging });
  });
}

/** What grammars are followed over. */
function vocabulary({ model, tokenizer }: Pick<Served, "model" | "tokenizer">): TokenVocabulary {
  const { config } = model.checkpoint;
  return vocabularyOf(tokenizer, { size: config.vocabSize, stopTokenIds: stopTokenIds(config, tokenizer), marks: answerMarks });
}

interface Served {
  readonly model: OpenModel;
  readonly tokenizer: ReturnType<typeof tokenizerOf>;
  readonly template: ReturnType<typeof templateOf>;
  readonly stage: Pick<StageDescription, "contextTokens">;
  readonly engine: InferenceEngine;
  readonly paging?: () => Promise<readonly ExpertPaging[]>;
}

async function answerRequests(
  { values, terminal, interrupts }: Invocation,
  apiKey: string | undefined,
  { model, tokenizer, template, stage, engine, paging }: Served,
): Promise<number> {
  const page = await openPage(values.page ?? BUILT_PAGE);
  if (values.page !== undefined && !page)
    throw new RunnerError(`Cannot serve the page of '${values.page}': it has no 'index.html', expected a folder that Vite has built`);
  for (const warning of model.warnings) terminal.err(`Warning: ${warning}\n`);
  const { config, generationConfig } = model.checkpoint;
  const served = {
    id: model.name.includes(" ") ? "shoal-tiny" : model.name,
    vocabSize: config.vocabSize,
    stopTokenIds: stopTokenIds(config, tokenizer),
    recommended: generationConfig,
    created: Math.floor(Date.now() / 1000),
  };
  return interrupts.stoppable(async (signal) => {
    Deno.addSignalListener("SIGTERM", () => interrupts.interrupt());
    const server = startServer({
      hostname: values.host ?? DEFAULT_HOST,
      port: values.port ?? DEFAULT_PORT,
      apiKey,
      origins: values.cors ?? [],
      api: { engine, tokenizer, template, model: served, ...(paging && { paging }) },
      page,
      limits: {
        ...(values["max-queue"] !== undefined && { maxQueue: values["max-queue"] }),
        ...(values["max-per-client"] !== undefined && { maxPerClient: values["max-per-client"] }),
      },
      onRequest: (record) => terminal.err(`${logLine(record, values["log-prompts"] === true)}\n`),
      signal,
    });
    if (page) terminal.err(`The chat page is at ${server.url}/\n`);
    terminal.out(`Serving ${served.id} on ${server.url}/v1, ${stage.contextTokens} tokens of context\n`);
    const drainSeconds = values["drain-timeout"] ?? DEFAULT_DRAIN_SECONDS;
    if (!(await drained(server, signal, drainSeconds * 1000)))
      terminal.err(`Warning: answers were cut off: they were still under way after ${drainSeconds} s\n`);
    await Promise.all([engine.close(), Promise.race([server.finished, delay(LAST_WORDS_MS)])]);
    return EXIT.ok;
  });
}

/** Resolves when the last answer has ended after the signal, or when it has taken too long: a client that does not read would hold the server up for ever. */
async function drained({ finished }: Server, signal: AbortSignal, ms: number): Promise<boolean> {
  await Promise.race([finished, new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }))]);
  return Promise.race([finished.then(() => true), delay(ms, false)]);
}

async function prepare(
  values: Values,
  word: string | undefined,
  signal: AbortSignal,
): Promise<Prepared & { readonly tokenizer: ReturnType<typeof tokenizerOf>; readonly template: ReturnType<typeof templateOf> }> {
  const model = await openModel(values, signal, word);
  const { config } = model.checkpoint;
  const tokenizer = tokenizerOf(model);
  const template = templateOf(model, tokenizer);
  const maxSequences = values["max-sequences"] ?? DEFAULT_MAX_SEQUENCES;
  const load = await loadOptions(values, config);
  return {
    model,
    tokenizer,
    template,
    load: {
      ...load,
      maxSequences,
      // A verified draft takes two.
      maxOutputs: 2 * maxSequences,
      kvTokens: Math.min(maxSequences, FULL_CONTEXTS) * load.contextTokens,
      mtp: config.nMtpLayers > 0,
    },
  };
}

async function readKey(values: Values): Promise<string | undefined> {
  const path = values["api-key-file"];
  const named = process.env["SHOAL_API_KEY"];
  if (path === undefined) return named === undefined || named === "" ? undefined : named;
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new RunnerError(`Cannot read the API key of '${path}': ${messageOf(cause, false)}`, { cause });
  }
  const key = new TextDecoder().decode(bytes.subarray(0, MAX_KEY_BYTES)).trim();
  if (key === "" || bytes.byteLength > MAX_KEY_BYTES)
    throw new RunnerError(`Cannot use '${path}' as an API key: it has ${bytes.byteLength} bytes, expected 1 to ${MAX_KEY_BYTES}`);
  return key;
}

/** One request as a line of JSON. Its text is left out unless somebody asked for it: prompts are people's own. */
function logLine({ body, fault, ms, ...record }: RequestRecord, withText: boolean): string {
  const time = new Date().toISOString();
  return JSON.stringify({
    time,
    ...record,
    ms: Math.round(ms),
    ...(fault !== undefined && { fault: messageOf(fault, true) }),
    ...(withText && { body }),
  });
}
