/** The commands as scripts and people use them, on the embedded model and on a small fixture. */
import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DenoEngine } from "@shoal/gpu/deno";
import { bytesSource, openSafetensors } from "@shoal/safetensors";
import { COMMANDS } from "../src/commands/mod.ts";
import { commandHelp } from "../src/help.ts";
import { type ShoalResult, on, shoal, withDirectory } from "./shoal.ts";

const FRANCE = "What is the capital of France?";
const PARIS = "The capital of France is Paris.";
const PERU = "The capital of Peru is Lima.";
const STORY = "Tell me a story about a brave fox and a lantern.";
const ragged = fileURLToPath(new URL("../../../packages/model/test/fixtures/ragged-v3-fp8", import.meta.url));

interface Completion {
  readonly prompt: string;
  readonly completion: string;
  readonly ids: readonly number[];
  readonly finishReason: string;
  readonly timings: Readonly<Record<string, number>>;
}

function succeeded(result: ShoalResult): ShoalResult {
  assert.equal(result.code, 0, result.stderr);
  return result;
}

function completions({ stdout }: ShoalResult): readonly Completion[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Completion);
}

export function tests(engine: DenoEngine): readonly { readonly name: string; readonly run: () => Promise<void> }[] {
  const run = async (args: readonly string[], options = {}): Promise<ShoalResult> =>
    succeeded(await shoal([...args, ...on(engine)], options));
  return [
    {
      name: "shoal --help, --version and every command's --help go to stdout",
      run: async () => {
        const general = succeeded(await shoal(["--help"]));
        for (const { name, summary } of COMMANDS) assert.ok(general.stdout.includes(name) && general.stdout.includes(summary));
        for (const command of COMMANDS) assert.equal(succeeded(await shoal([command.name, "--help"])).stdout, commandHelp(command));
        assert.match(succeeded(await shoal(["--version"])).stdout, /^shoal \d+\.\d+\.\d+\n$/);
        const { code, stdout, stderr } = await shoal([]);
        assert.deepEqual({ code, stdout, help: stderr }, { code: 2, stdout: "", help: general.stdout });
      },
    },
    {
      name: "shoal chat answers a prompt on stdout and says on stderr which adapter runs",
      run: async () => {
        const { stdout, stderr } = await run(["chat", FRANCE]);
        assert.equal(stdout, `${PARIS}\n`);
        assert.match(stderr, /^Adapter: .+ through (Dawn|Deno's wgpu)/m);
        assert.match(stderr, /^Loaded the embedded tiny model: 23\.\d MB in /m);
        assert.match(stderr, /^\[8 tokens in .* tokens\/s\); first token after .*\(prompt of 10 tokens\)\]$/m);
      },
    },
    {
      name: "shoal chat takes a prompt of several words, and quantized activations",
      run: async () => {
        const { stdout } = await run(["chat", "--mode", "w8a8", "--kv", "f32", "--chunk", "3", "What", "is", "47", "+", "38?"]);
        assert.equal(stdout, "47 + 38 = 85\n");
      },
    },
    {
      name: "shoal chat keeps a conversation over piped lines, clears it and leaves",
      run: async () => {
        const stdin = "My name is Ada.\nWhat is my name?\n/clear\nWhat is my name?\n/stats\n/exit\nWhat is 1 + 1?\n";
        const { stdout, stderr } = await run(["chat"], { stdin });
        const answers = stdout.trimEnd().split("\n");
        assert.equal(answers.length, 3, stdout);
        assert.match(answers[1] ?? "", /Ada/);
        assert.doesNotMatch(answers[2] ?? "", /Ada/);
        assert.match(stderr, /So far: 3 answers, .*[1-9]\d* of them cached/);
      },
    },
    {
      name: "shoal generate --interactive asks as the demo does",
      run: async () => {
        const args = ["generate", "--interactive", "--temperature", "0", "--input-file", "/not/read"];
        const { stdout } = await run(args, { stdin: `${FRANCE}\n/clear\n/exit\n` });
        assert.equal(stdout, `>>> ${PARIS}\n>>> >>> `);
      },
    },
    {
      name: "shoal generate completes every line of a file in the demo's form",
      run: () =>
        withDirectory(async (directory) => {
          const file = join(directory, "prompts.txt");
          await writeFile(file, `${FRANCE}\n\n  What is the capital of Peru?\r\n`);
          const { stdout } = await run(["generate", "--input-file", file, "--temperature", "0"]);
          assert.equal(stdout, `Prompt: ${FRANCE}\nCompletion: ${PARIS}\n\nPrompt: What is the capital of Peru?\nCompletion: ${PERU}\n\n`);
          const json = completions(await run(["generate", "--input-file", file, "--temperature", "0", "--json"]));
          assert.deepEqual(
            json.map(({ prompt, completion, finishReason }) => [prompt, completion, finishReason]),
            [
              [FRANCE, PARIS, "stop"],
              ["What is the capital of Peru?", PERU, "stop"],
            ],
          );
          assert.ok((json[1]?.timings["cachedTokens"] ?? 0) > 0, "the second prompt begins as the first did");
        }),
    },
    {
      name: "shoal generate takes a prompt from standard input and stops at --max-new-tokens",
      run: async () => {
        const [one, ...others] = completions(
          await run(["generate", "--json", "--temperature", "0", "--max-new-tokens", "3"], { stdin: FRANCE }),
        );
        assert.equal(others.length, 0);
        assert.equal(one?.ids.length, 3);
        assert.equal(one.finishReason, "length");
        assert.ok(PARIS.startsWith(one.completion));
      },
    },
    {
      name: "shoal generate gives the same tokens for the same seed, and others for another",
      run: async () => {
        const sample = async (seed: string): Promise<readonly number[]> => {
          const args = ["generate", "--json", "--temperature", "3", "--top-k", "200", "--max-new-tokens", "24", "--seed", seed, STORY];
          return completions(await run(args))[0]?.ids ?? [];
        };
        const first = await sample("7");
        assert.ok(first.length > 0);
        assert.deepEqual(await sample("7"), first);
        assert.notDeepEqual(await sample("8"), first);
      },
    },
    {
      name: "shoal logits writes what was asked for, whatever the chunk",
      run: () =>
        withDirectory(async (directory) => {
          const ids = "5,17,200,3,99,316,0,42,42,7";
          const read = async (name: string, ...more: string[]) => {
            const out = join(directory, name);
            await run(["logits", "--model", ragged, "--ids", ids, "--out", out, "--hidden", "--routing", "--mtp", ...more]);
            return openSafetensors(bytesSource(new Uint8Array(await readFile(out))));
          };
          const whole = await read("whole.safetensors");
          const shapes = Object.fromEntries([...whole.tensors.values()].map(({ name, dtype, shape }) => [name, [dtype, ...shape]]));
          assert.deepEqual(shapes, {
            logits: ["F32", 10, 317],
            mtp_logits: ["F32", 9, 317],
            "hidden.0": ["F32", 10, 200],
            "hidden.1": ["F32", 10, 200],
            "routing.1.indices": ["I32", 10, 3],
            "routing.1.weights": ["F32", 10, 3],
          });
          assert.equal(whole.metadata.get("ids"), ids);
          const cut = await read("cut.safetensors", "--chunk", "3");
          for (const { name, dtype } of whole.tensors.values()) {
            const View = dtype === "I32" ? Int32Array : Float32Array;
            const [a, b] = await Promise.all([whole, cut].map(async (file) => new View((await file.readTensor(name)).buffer)));
            let most = 0;
            for (const [i, value] of a?.entries() ?? []) most = Math.max(most, Math.abs(value - (b?.[i] ?? Number.NaN)));
            assert.ok(most < 1e-3, `${name} differs by ${most}`);
            assert.ok(
              a?.some((value) => value !== 0),
              `${name} is all zero`,
            );
          }
          assert.deepEqual((await readdir(directory)).sort(), ["cut.safetensors", "whole.safetensors"]);
        }),
    },
    {
      name: "shoal logits takes text and a file of ids",
      run: () =>
        withDirectory(async (directory) => {
          const [fromText, file, fromFile] = ["text.safetensors", "ids.txt", "ids.safetensors"].map((name) => join(directory, name)) as [
            string,
            string,
            string,
          ];
          await run(["logits", "--text", "The sea", "--out", fromText]);
          const text = await openSafetensors(bytesSource(new Uint8Array(await readFile(fromText))));
          const ids = text.metadata.get("ids") ?? "";
          assert.match(ids, /^0,\d+/, "begins with BOS");
          await writeFile(file, ids.replaceAll(",", "\n"));
          await run(["logits", "--ids-file", file, "--out", fromFile]);
          const again = await openSafetensors(bytesSource(new Uint8Array(await readFile(fromFile))));
          assert.deepEqual(await again.readTensor("logits"), await text.readTensor("logits"));
        }),
    },
    {
      name: "shoal inspect describes a model and what a run takes",
      run: async () => {
        const { stdout } = await run(["inspect", "--context", "1000", "--tensors"]);
        assert.match(stdout, /^Layers +6: 1 dense, 5 with experts; 1 MTP module$/m);
        assert.match(stdout, /A run with a context of 1,000 tokens takes/);
        assert.match(stdout, /^lm_head\.weight +BF16 +\[4096,256\]/m);
        const report = JSON.parse((await run(["inspect", ragged, "--json"])).stdout) as Record<string, Record<string, unknown>>;
        assert.equal(report["config"]?.["hiddenSize"], 200);
        assert.ok(Number(report["requirements"]?.["total"]) > Number(report["requirements"]?.["weights"]));
        assert.equal(report["requirements"]?.["refusal"], null);
      },
    },
    {
      name: "shoal doctor finds a working adapter",
      run: async () => {
        const { stdout } = await run(["doctor"]);
        assert.match(stdout, /FP8 self-test +passed, all 256 codes/);
        const report = JSON.parse((await run(["doctor", "--json"])).stdout) as {
          engines: { device: unknown; times: { readbackMs: number } }[];
        };
        assert.ok(report.engines.some(({ device, times }) => device !== null && times.readbackMs > 0));
      },
    },
    {
      name: "shoal ends with 130 at Ctrl-C while it loads",
      run: async () => {
        const { code, stdout, stderr } = await shoal(["chat", STORY, ...on(engine)], {
          interruptWhen: ({ stderr }) => stderr.includes("Adapter:"),
        });
        assert.equal(code, 130, stderr);
        assert.equal(stdout, "");
        assert.doesNotMatch(stderr, /shoal: /);
      },
    },
    {
      name: "shoal ends with 130 at Ctrl-C while it computes the prompt",
      run: async () => {
        const { code, stderr } = await shoal(["chat", "--chunk", "16", "The sea is wide. ".repeat(150), ...on(engine)], {
          interruptWhen: ({ stderr }) => stderr.includes("Loaded"),
        });
        assert.equal(code, 130, stderr);
      },
    },
    {
      name: "shoal ends with 130 at Ctrl-C while it answers, and what it said stands",
      run: async () => {
        const { code, stdout, stderr } = await shoal(
          ["chat", "--max-new-tokens", "1500", "--temperature", "5", "--seed", "1", STORY, ...on(engine)],
          {
            interruptWhen: ({ stdout }) => stdout.length > 0,
          },
        );
        assert.equal(code, 130, stderr);
        assert.ok(stdout.length > 0);
        assert.doesNotMatch(stderr, /shoal: /);
      },
    },
    {
      name: "shoal chat goes on after Ctrl-C stops an answer",
      run: async () => {
        const { code, stdout, stderr } = await shoal(["chat", "--max-new-tokens", "1500", ...on(engine)], {
          stdin: `${STORY}\n/clear\n${FRANCE}\n`,
          interruptWhen: ({ stdout }) => stdout.length > 0,
        });
        assert.equal(code, 0, stderr);
        assert.match(stderr, /\[stopped\]/);
        assert.ok(stdout.endsWith(`\n${PARIS}\n`), stdout);
      },
    },
  ];
}
