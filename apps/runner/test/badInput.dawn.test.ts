/**
 * Wrong input of every kind that a person can hand in. Each ends by itself, with exit code 1 or 2, one message on stderr that names what is wrong and what was
 * expected, no stack trace, nothing on stdout and no file written.
 */
import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DenoEngine } from "@shoal/gpu/deno";
import { Checkpoint, writeHugeCheckpoint } from "./badCheckpoints.ts";
import { type ShoalOptions, type ShoalResult, on, shoal, withDirectory } from "./shoal.ts";

interface Test {
  readonly name: string;
  readonly run: () => Promise<void>;
}

function assertRefused({ code, stdout, stderr }: ShoalResult, expectedCode: number, message: RegExp): void {
  assert.match(stderr, message);
  assert.equal(code, expectedCode, stderr);
  assert.equal(stdout, "");
  const own = stderr.split("\n").filter((line) => line.startsWith("shoal: "));
  assert.equal(own.length, 1, `one message expected:\n${stderr}`);
  // Before our message come warnings of the engine's own, with lines of its source.
  assert.doesNotMatch(stderr.slice(stderr.indexOf("shoal: ")), /^\s+at /m, "a stack trace");
  assert.doesNotMatch(stderr, /Uncaught/);
}

const KV_B = "model.layers.1.self_attn.kv_b_proj.weight";
const EMBEDDING = "model.embed_tokens.weight";

/** [what is wrong, how it comes about, what the message says]; exit code 1. */
const BROKEN: readonly (readonly [string, (checkpoint: Checkpoint) => Promise<void>, RegExp])[] = [
  ["config.json is missing", (c) => c.remove(c.path("config.json")), /Cannot load '.*': 'config\.json' is missing, expected/],
  ["config.json is not JSON", (c) => writeFile(c.path("config.json"), "{nonsense"), /Cannot use 'config\.json'.*JSON/],
  [
    "a field of the config is missing",
    (c) => c.editConfig((config) => Reflect.deleteProperty(config, "kv_lora_rank")),
    /Cannot use 'config\.json': kv_lora_rank is .*expected/,
  ],
  [
    "topk_group is larger than n_group",
    (c) => c.editConfig((config) => (config["topk_group"] = 4)),
    /Cannot use 'config\.json': .*topk_group.* 4.*expected/,
  ],
  [
    "the rope dimension is odd",
    (c) => c.editConfig((config) => (config["qk_rope_head_dim"] = 15)),
    /Cannot use 'config\.json': qk_rope_head_dim.* 15.*expected/,
  ],
  ["a shard is missing", async (c) => c.remove(await c.shard()), /Cannot read '.*model-00002-of-00002\.safetensors.*expected/],
  ["a shard is truncated", async (c) => c.cut(await c.shard(), 1000), /Cannot read '.*00002\.safetensors'.*expected/],
  [
    "a shard ends in its header",
    async (c) => writeFile(await c.shard(), new Uint8Array([1, 2, 3])),
    /Cannot read '.*00002\.safetensors'.*3 bytes.*expected/,
  ],
  [
    "the header's length is 2^63",
    async (c) => c.setHeaderLength(await c.shard(), 1n << 63n),
    /Cannot read '.*00002\.safetensors'.*9223372036854775808.*expected/,
  ],
  ["the header is not JSON", async (c) => c.setHeaderText(await c.shard(), "{nonsense"), /Cannot read '.*00002\.safetensors'.*JSON/],
  [
    "two tensors overlap",
    async (c) =>
      c.editHeader(await c.shard(), (header) => {
        const [first, second] = Object.values(header)
          .filter((entry) => "data_offsets" in entry)
          .sort((a, b) => a.data_offsets[0] - b.data_offsets[0]);
        if (!first || !second) throw new Error("two tensors expected");
        const length = second.data_offsets[1] - second.data_offsets[0];
        second.data_offsets = [first.data_offsets[0], first.data_offsets[0] + length];
      }),
    /Cannot read '.*00002\.safetensors': .*(overlap|gap|align|begin)/,
  ],
  [
    "a tensor lies outside the file",
    async (c) =>
      c.editHeader(await c.shardOf(KV_B), (header) => {
        for (const entry of Object.values(header))
          if ("data_offsets" in entry) entry.data_offsets = entry.data_offsets.map((at) => at + 2 ** 40) as [number, number];
      }),
    /Cannot read '.*safetensors'.*expected/,
  ],
  [
    "a tensor has the wrong dtype",
    async (c) =>
      c.editHeader(await c.shardOf(KV_B), (header) => {
        const entry = header[KV_B];
        if (entry) entry.dtype = "I8";
      }),
    /Cannot load '.*': tensor 'model\.layers\.1\.self_attn\.kv_b_proj\.weight' has dtype I8, expected F8_E4M3 or/,
  ],
  [
    "a tensor has the wrong shape",
    async (c) =>
      c.editHeader(await c.shardOf(EMBEDDING), (header) => {
        header[EMBEDDING]?.shape.reverse();
      }),
    /Cannot load '.*': tensor 'model\.embed_tokens\.weight' has shape \[200,317\], expected \[317,200\]/,
  ],
  [
    "a tensor is missing",
    (c) => c.hide(EMBEDDING),
    /Cannot load '.*': tensor 'model\.embed_tokens\.weight' is missing, expected it with shape \[317,200\]/,
  ],
  [
    "a scale is missing",
    (c) => c.hide(`${KV_B}_scale_inv`),
    /Cannot load '.*': tensor '.*kv_b_proj\.weight' is FP8 without its scale, expected '.*_scale_inv'/,
  ],
  [
    "an FP8 weight is NaN",
    (c) => c.editTensor(KV_B, (bytes) => (bytes[77] = 0x7f)),
    /Cannot use the weights '.*': 1 of their FP8 codes are NaN/,
  ],
  [
    "an FP8 weight of an expert is NaN",
    (c) => c.editTensor("model.layers.1.mlp.experts.7.down_proj.weight", (bytes) => (bytes[5] = 0xff)),
    /Cannot use the weights '.*': 1 of their FP8 codes are NaN/,
  ],
];

const logits = (model: string, out: string, ...more: string[]): string[] => [
  "logits",
  "--model",
  model,
  "--ids",
  "1,2,3",
  "--out",
  out,
  ...more,
];

/** [what is wrong, arguments, exit code, what the message says, how it is run] */
type Usage = readonly [name: string, args: readonly string[], code: number, message: RegExp, options?: ShoalOptions];

const USAGE: readonly Usage[] = [
  [
    "an unknown flag",
    ["chat", "--temprature", "1", "Hi"],
    2,
    /Cannot use '--temprature': 'shoal chat' has no such option, expected perhaps '--temperature'/,
  ],
  ["an unknown command", ["chta", "Hi"], 2, /Cannot run 'chta': no such command, expected 'chat'/],
  ["a value out of range", ["generate", "--top-p", "2", "Hi"], 2, /Cannot use '--top-p 2', expected a number above 0 and up to 1/],
  ["no prompt at all", ["generate"], 2, /Either input-file or interactive mode must be specified/],
  ["an empty standard input", ["generate"], 2, /Either input-file or interactive mode must be specified/, { stdin: "\n" }],
  [
    "an input file that is not there",
    ["generate", "--input-file", "/no/such/prompts.txt"],
    1,
    /Cannot read '\/no\/such\/prompts\.txt': it does not exist/,
  ],
  [
    "a config that is not there",
    ["chat", "--config", "/no/such/config.json", "Hi"],
    1,
    /Cannot read '\/no\/such\/config\.json': it does not exist/,
  ],
  [
    "a model that is not there",
    ["chat", "--model", "/no/such/model", "Hi"],
    1,
    /Cannot load '\/no\/such\/model': it does not exist, expected a directory/,
  ],
  ["two models", ["chat", "--model", "/a", "--ckpt-path", "/b", "Hi"], 2, /Cannot use two models, '\/a' and '\/b'/],
  [
    "a prompt longer than the context",
    ["chat", "--context", "8", "What is the capital of France, and what is that of Peru?"],
    1,
    /Cannot run the prompt: it has \d+ tokens, expected at most 8; .*--context/,
  ],
  [
    "a context longer than the model's",
    ["chat", "--context", "100000", "Hi"],
    2,
    /Cannot use '--context 100000': the model has 2048 positions/,
  ],
  ["no file to write", ["logits", "--ids", "1"], 2, /Cannot write logits without '--out FILE'/],
  ["ids that are none", ["logits", "--ids", "1,x", "--out", "unused"], 2, /'x' is no token of the model, expected an id from 0 to 4095/],
  ["an id outside the vocabulary", ["logits", "--ids", "4096", "--out", "unused"], 2, /'4096' is no token of the model/],
  [
    "a place that cannot be written",
    ["logits", "--ids", "1", "--out", "/no/such/folder/out.safetensors"],
    1,
    /Cannot write '\/no\/such\/folder\/out\.safetensors': it failed \(ENOENT\)/,
  ],
];

export function tests(engine: DenoEngine): readonly Test[] {
  const broken = BROKEN.map(([what, breakIt, message]): Test => {
    const run = (): Promise<void> =>
      withDirectory(async (directory) => {
        const checkpoint = await Checkpoint.copyTo(join(directory, "model"));
        await breakIt(checkpoint);
        const out = join(directory, "out", "logits.safetensors");
        await mkdir(join(directory, "out"));
        assertRefused(await shoal([...logits(checkpoint.directory, out), ...on(engine)]), 1, message);
        assert.deepEqual(await readdir(join(directory, "out")), []);
      });
    return { name: `shoal refuses a checkpoint where ${what}`, run };
  });
  const usage = USAGE.map(([what, args, code, message, options]): Test => {
    const withEngine = args[0] === "chta" ? args : [...args, ...on(engine)];
    return { name: `shoal refuses ${what}`, run: async () => assertRefused(await shoal(withEngine, options), code, message) };
  });
  return [
    ...usage,
    ...broken,
    {
      name: "shoal says that there is no adapter, and what would help",
      run: async () => {
        const env = { VK_DRIVER_FILES: "/dev/null", VK_ICD_FILENAMES: "/dev/null", DENO_WEBGPU_BACKEND: "vulkan" };
        assertRefused(
          await shoal(["chat", "Hi", ...on(engine)], { env }),
          1,
          /Cannot find a GPU adapter through .*: .*apt-get install mesa-vulkan-drivers/,
        );
        const doctor = await shoal(["doctor", ...on(engine)], { env });
        assert.equal(doctor.code, 1);
        assert.match(doctor.stdout, /No adapter works/);
      },
    },
    {
      name: "shoal refuses a model that is too large for the adapter before it loads anything",
      run: () =>
        withDirectory(async (directory) => {
          await writeHugeCheckpoint(directory);
          const result = await shoal([...logits(directory, join(directory, "out.safetensors")), ...on(engine)]);
          assertRefused(result, 1, /Cannot load one expert: it needs maxStorageBufferBindingSize of 8589934592, this adapter has \d+/);
          assert.doesNotMatch(result.stderr, /Loaded/);
          const inspect = await shoal(["inspect", directory, ...on(engine)]);
          assert.equal(inspect.code, 0, inspect.stderr);
          assert.match(inspect.stdout, /Cannot .* it needs maxStorageBufferBindingSize of \d+, this adapter has \d+/);
        }),
    },
    {
      name: "shoal bench refuses a trace that cannot be written before it measures anything",
      run: () =>
        withDirectory(async (directory) => {
          const trace = join(directory, "none", "trace.json");
          const result = await shoal(["bench", "--suite", "gpu", "--only", "ceiling", "--trace", trace, ...on(engine)]);
          assertRefused(result, 1, /Cannot write the trace '.*none\/trace\.json': /);
          assert.doesNotMatch(result.stderr, /Bench:/);
        }),
    },
    {
      name: "shoal shows a stack trace only with --verbose",
      run: async () => {
        const { stderr, code } = await shoal(["chat", "--model", "/no/such/model", "--verbose", "Hi", ...on(engine)]);
        assert.equal(code, 1);
        assert.match(stderr, /CheckpointError: Cannot load[\s\S]*\n\s+at /);
      },
    },
  ];
}
