/**
 * Every option of every command: its name, what its value must be, what it means. Names are kept stable, because others script them.
 */
export interface Option<T> {
  /** What stands for the value in the help; null for a switch, which takes none. */
  readonly placeholder: string | null;
  readonly help: string;
  /** What a value must be, for messages. */
  readonly expected: string;
  /** Undefined where the text is no such value. */
  readonly parse: (text: string) => T | undefined;
}

const MAX_SEED = (1n << 64n) - 1n;

function toggle(help: string): Option<true> {
  return { placeholder: null, help, expected: "no value", parse: () => true };
}

function text(placeholder: string, help: string): Option<string> {
  return { placeholder, help, expected: "some text", parse: (value) => (value === "" ? undefined : value) };
}

function list(placeholder: string, help: string): Option<readonly string[]> {
  const parse = (value: string): readonly string[] | undefined => {
    const parts = value.split(",").map((part) => part.trim());
    return parts.includes("") ? undefined : parts;
  };
  return { placeholder, help, expected: "names separated by commas", parse };
}

function integer(placeholder: string, help: string, min: number, max: number): Option<number> {
  const parse = (value: string): number | undefined => {
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    return number >= min && number <= max ? number : undefined;
  };
  return { placeholder, help, expected: `an integer from ${min} to ${max}`, parse };
}

function decimal(placeholder: string, help: string, min: number, max: number, open = false): Option<number> {
  const parse = (value: string): number | undefined => {
    const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value) ? Number(value) : Number.NaN;
    return number <= max && (open ? number > min : number >= min) ? number : undefined;
  };
  return { placeholder, help, expected: open ? `a number above ${min} and up to ${max}` : `a number from ${min} to ${max}`, parse };
}

function size(help: string): Option<number> {
  const units: Readonly<Record<string, number>> = { MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };
  const parse = (value: string): number | undefined => {
    const [, count = "", unit = ""] = /^(\d{1,6}(?:\.\d{1,3})?)(MB|GB|TB)$/i.exec(value) ?? [];
    const bytes = Number(count) * (units[unit.toUpperCase()] ?? Number.NaN);
    return bytes > 0 ? bytes : undefined;
  };
  return { placeholder: "SIZE", help, expected: "a size such as 800MB or 8GB", parse };
}

function choice<const T extends string>(help: string, values: readonly T[]): Option<T> {
  return { placeholder: values.join("|"), help, expected: values.join(" or "), parse: (value) => values.find((one) => one === value) };
}

function seed(help: string): Option<bigint> {
  const parse = (value: string): bigint | undefined => {
    const number = /^\d{1,20}$/.test(value) ? BigInt(value) : -1n;
    return number >= 0n && number <= MAX_SEED ? number : undefined;
  };
  return { placeholder: "N", help, expected: "an integer from 0 to 2^64 - 1", parse };
}

export const OPTIONS = {
  model: text("LOCATION", "a directory, an http(s) address, or 'organization/name' on the hub; without it the embedded tiny model"),
  "ckpt-path": text("LOCATION", "the same as --model"),
  config: text("FILE", "a config to use instead of the checkpoint's: the demo's format, or Hugging Face's config.json"),

  prompt: text("TEXT", "the prompt; may be given without the flag too"),
  "input-file": text("FILE", "prompts to complete, one on a line; empty lines are skipped"),
  interactive: toggle("chat on standard input: '>>> ' asks, /exit leaves, /clear forgets; wins over --input-file"),
  system: text("TEXT", "a system message before the conversation"),
  "max-new-tokens": integer("N", "the longest answer, in tokens (default 200)", 1, 2 ** 24),
  temperature: decimal("T", "0 is greedy; higher is more random", 0, 100),
  "top-p": decimal("P", "choose among the likeliest tokens that have this share together (default 1: all)", 0, 1, true),
  "top-k": integer("K", "choose among the K likeliest tokens (default 0: all)", 0, 2 ** 24),
  "min-p": decimal("P", "leave out tokens with less than this share of the likeliest one's probability (default 0)", 0, 1),
  "repetition-penalty": decimal(
    "F",
    "divide the positive logits of tokens that prompt or answer have, multiply the negative (default 1: no change)",
    0,
    10,
    true,
  ),
  "frequency-penalty": decimal("F", "subtract F from a token's logit for each time that the answer has it (default 0)", -2, 2),
  "presence-penalty": decimal("F", "subtract F once from the logits of tokens that the answer has (default 0)", -2, 2),
  seed: seed("the same seed gives the same tokens"),
  json: toggle("machine-readable output"),

  ids: text("ID,ID,...", "token ids"),
  "ids-file": text("FILE", "token ids in a file, separated by commas or white space"),
  text: text("TEXT", "text to tokenize, with the marks that the tokenizer puts around it"),
  out: text("FILE", "the safetensors file to write"),
  hidden: toggle("also write hidden.<layer> [tokens, dim], the residual stream after each layer"),
  routing: toggle("also write routing.<layer>.indices and .weights [tokens, topK]"),
  mtp: toggle("also write mtp_logits [tokens - 1, vocab]: row i is the MTP module's guess at token i + 2"),
  chunk: integer("N", "tokens in one step of the prefill (default 256)", 1, 65_536),
  suite: choice("what to measure: a model (default), kernels by themselves, or large models' shapes against what this device can do", [
    "quick",
    "kernels",
    "gpu",
  ]),
  only: text("NAME,NAME,...", "of '--suite kernels' or '--suite gpu' only these kernels or rows"),
  trace: text("FILE", "with '--suite gpu': write one step of each row as a Chrome trace, which Perfetto opens"),
  "prompt-tokens": integer("N", "tokens of the timed prompt (default 128)", 1, 2 ** 20),
  "new-tokens": integer("N", "tokens decoded after it (default 64)", 1, 2 ** 20),
  repeat: integer("N", "timed runs, of which the median counts (default 3)", 1, 1000),
  expect: text("TEXT", "how the greedy answer to the prompt must begin, or nothing is measured"),
  tensors: toggle("list every tensor"),
  quick: toggle("measure fewer shapes: about a third of the time"),

  host: text("ADDRESS", "the address to serve on (default 127.0.0.1); any but this machine's own needs an API key"),
  port: integer("N", "the port to serve on (default 8080); 0 takes one that is free", 0, 65_535),
  "api-key-file": text("FILE", "the API key that clients must send; SHOAL_API_KEY is another place for it"),
  cors: list("ORIGIN,ORIGIN,...", "origins of pages that may read answers, or *; none by default"),
  "max-sequences": integer("N", "answers computed at once (default 8)", 1, 64),
  "max-queue": integer("N", "answers that wait for their turn; more are refused (default 64)", 0, 65_536),
  "max-per-client": integer("N", "answers under way for one address (default 16)", 1, 65_536),
  "drain-timeout": integer("SECONDS", "for answers under way when the server is told to end; the rest is cut off (default 60)", 0, 86_400),
  page: text("FOLDER", "the built chat page to serve at / (default: apps/chat/dist, where it was built)"),
  "log-prompts": toggle("write the text of requests to the log too"),

  swarm: text("INVITE", "run on the peers of a swarm instead of this machine's own GPU"),
  memory: size("of the device, for weights and KV cache (default 4GB)"),
  relay: list("ADDRESS,ADDRESS,...", "addresses that 'shoal relay' printed"),
  days: integer("N", "how long the invite lets new peers in (default 30)", 1, 3650),
  "tls-cert": text("FILE", "certificate chain, PEM"),
  "tls-key": text("FILE", "its private key, PEM"),
  "ice-servers": list("URL,URL,...", "STUN and TURN servers: stun:host:port, turn:user:password@host:port"),
  drafts: toggle("load the module that drafts tokens too, where the last layers come here and it fits; on GPUs it is, without this"),
  "no-local": toggle("read weights from other peers even where this machine has them"),
  activations: choice(
    "how hidden states travel between peers or devices: as they are (default), in half the bytes, or, between devices, in FP8 with a scale for each 128",
    ["f32", "f16", "fp8"],
  ),

  mode: choice("arithmetic: activations as they are (default), or quantized to FP8 as DeepSeek does", ["w8a32", "w8a8"]),
  kv: choice("number format of the KV cache", ["f32", "f16", "fp8"]),
  context: integer("N", "tokens that fit the KV cache (default: what the model allows, up to 4096)", 1, 2 ** 24),
  webgpu: choice("which WebGPU: Deno's own, Dawn, or what works best (default)", ["auto", "wgpu", "dawn"]),
  matrices: choice(
    "how products of many tokens use a GPU's matrix units, where Dawn offers them: with activations rounded to f16 (default), precisely, or not",
    ["f16", "precise", "off"],
  ),
  tuning: choice("use the table of fastest variants that 'shoal tune' made (default), or not", ["on", "off"]),
  devices: list(
    "NAME,...",
    "spread the model over several devices, each in a process of its own, by parts of their adapters' names (Dawn), or 'auto' for all; NAME=2 takes twice the share of the others. Of 'plan': a JSON file",
  ),
  plan: text("FILE", "spread the model over several devices as a plan says, which 'shoal plan --json' printed"),
  "expert-memory": size("of each device for routed experts: those that do not fit are read when they are needed (default: all are there)"),
  replicas: integer("N", "devices that have each expert, where experts are spread (default 1)", 1, 64),
  split: choice("with --devices: layers in a row (default), each layer's experts, or both", ["layers", "experts", "both"]),
  adapter: text("NAME", "part of the adapter's name (Dawn only); 'shoal doctor' shows names"),

  verbose: toggle("show stack traces and details"),
  help: toggle("show this help"),
  version: toggle("show the version"),
} as const satisfies Record<string, Option<unknown>>;

export type OptionName = keyof typeof OPTIONS;

/** Options that were given, parsed. */
export type Values = { readonly [Name in OptionName]?: Exclude<ReturnType<(typeof OPTIONS)[Name]["parse"]>, undefined> };

/** Short forms. */
export const SHORT: Readonly<Record<string, OptionName>> = { h: "help", V: "version", v: "verbose", m: "model", p: "prompt" };

/** Options that every command takes. */
export const COMMON: readonly OptionName[] = ["verbose", "help"];
/** Where and how a model runs. */
export const DEVICE: readonly OptionName[] = ["webgpu", "adapter", "tuning", "matrices"];
/** Several of them. */
export const DEVICES: readonly OptionName[] = ["devices", "split", "plan", "expert-memory"];
export const MODEL: readonly OptionName[] = ["model", "ckpt-path", "config"];
export const SAMPLING: readonly OptionName[] = [
  "max-new-tokens",
  "temperature",
  "top-p",
  "top-k",
  "min-p",
  "repetition-penalty",
  "frequency-penalty",
  "presence-penalty",
  "seed",
];
export const SWARM: readonly OptionName[] = ["swarm", "ice-servers", "activations", "no-local"];
export const RUN: readonly OptionName[] = ["mode", "kv", "context", "chunk"];

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}
