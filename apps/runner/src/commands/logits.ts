/** `shoal logits`: everything that the forward pass computes for a prompt, in a file that any other implementation can be compared with. */
import { readFile } from "node:fs/promises";
import type { Command, Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { formatBytes, formatDuration } from "../format.ts";
import { startModel, withGpu } from "../gpu/session.ts";
import { openLogitsFile } from "../logitsFile.ts";
import { type OpenModel, openModel, tokenizerOf } from "../model/openModel.ts";
import { contextTokens } from "../model/runOptions.ts";
import { DEVICE, MODEL, RUN, type Values } from "../options.ts";
import { checkLength } from "./chat.ts";

/** Logits of one step stay below this, so that they fit a binding anywhere. */
const MAX_LOGITS_BYTES = 64 * 2 ** 20;
const DEFAULT_CHUNK = 256;

export const logitsCommand: Command = {
  name: "logits",
  summary: "write the logits of a prompt, and what led to them, to a safetensors file",
  arguments: "",
  maxWords: 0,
  options: ["ids", "ids-file", "text", "out", "hidden", "routing", "mtp", ...MODEL, ...RUN, ...DEVICE],
  notes: [
    "Writes F32 `logits` [tokens, vocab]. The KV cache is f32 unless --kv says otherwise. Layers are counted from 0.",
    "Example: shoal logits --model DIR --ids 0,15,27 --out logits.safetensors --hidden --routing",
  ],
  run: runLogits,
};

async function runLogits(invocation: Invocation): Promise<number> {
  const { values, terminal, interrupts } = invocation;
  const { out } = values;
  if (out === undefined) throw new UsageError("Cannot write logits without '--out FILE', expected a file to write", "logits");
  const sources = [values.ids, values["ids-file"], values.text].filter((one) => one !== undefined);
  if (sources.length !== 1)
    throw new UsageError(`Cannot take a prompt from ${sources.length} of --ids, --ids-file and --text, expected one`, "logits");
  return withGpu(async (client) => {
    const { model, ids, context } = await startModel(client, invocation, async () => {
      const model = await openModel(values, interrupts.signal);
      const { config } = model.checkpoint;
      const ids = await promptIds(values, model);
      const context = contextTokens({ context: values.context ?? Math.min(ids.length, config.maxPositionEmbeddings) }, config);
      checkLength(ids.length, context);
      if (values.mtp === true && config.nMtpLayers === 0) throw new RunnerError("Cannot compute '--mtp': the checkpoint has no MTP module");
      const fitting = Math.max(1, Math.floor(MAX_LOGITS_BYTES / (config.vocabSize * 4)));
      const chunk = Math.min(values.chunk ?? Math.min(DEFAULT_CHUNK, fitting), ids.length);
      const load = {
        mode: values.mode ?? "w8a32",
        kvFormat: values.kv ?? "f32",
        contextTokens: context,
        maxTokens: chunk,
        maxOutputs: chunk,
        mtp: values.mtp === true,
      } as const;
      return { model, load, ids, context };
    });
    for (const warning of model.warnings) terminal.err(`Warning: ${warning}\n`);
    const { config } = model.checkpoint;
    const begin = performance.now();
    const wants = { hidden: values.hidden === true, routing: values.routing === true, mtp: values.mtp === true };
    const metadata = {
      model: model.name,
      mode: values.mode ?? "w8a32",
      kv: values.kv ?? "f32",
      context: String(context),
      ids: ids.join(","),
      writer: "shoal logits",
    };
    const file = await openLogitsFile(out, config, { tokens: ids.length, ...wants }, metadata);
    try {
      await client.logits({ ids, ...wants }, (rows) => file.write(rows), interrupts.signal);
      await file.finish();
    } catch (error) {
      await file.discard();
      throw error;
    }
    terminal.err(
      `Wrote ${file.tensorCount} tensors, ${formatBytes(file.byteLength)}, to '${out}' in ${formatDuration(performance.now() - begin)}\n`,
    );
    return EXIT.ok;
  });
}

async function promptIds({ ids, "ids-file": file, text }: Values, model: OpenModel): Promise<readonly number[]> {
  if (text !== undefined) return tokenizerOf(model).encode(text, { addSpecialTokens: true });
  const source = ids === undefined ? `'${file}'` : "'--ids'";
  const list = ids ?? (await readIds(file ?? ""));
  const words = list.split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0) throw new UsageError(`Cannot use ${source}: there is no id in it, expected at least one`, "logits");
  const { vocabSize } = model.checkpoint.config;
  return words.map((word) => {
    const id = /^\d{1,9}$/.test(word) ? Number(word) : Number.NaN;
    if (id < vocabSize) return id;
    throw new UsageError(
      `Cannot use ${source}: '${word.slice(0, 40)}' is no token of the model, expected an id from 0 to ${vocabSize - 1}`,
      "logits",
    );
  });
}

async function readIds(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new RunnerError(
      `Cannot read '${path}': ${code === "ENOENT" ? "it does not exist" : `it failed (${code})`}, expected a file of ids`,
      { cause },
    );
  }
}
