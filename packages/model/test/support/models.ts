/** One device for a test file, and the checkpoints of the tests on it. Everything is opened when first asked for and kept. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { openDirectory } from "@shoal/checkpoint/directory";
import type { GpuContext } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { type LocalStage, type LocalStageOptions, type NumericMode, loadLocalStage } from "@shoal/model";
import { tinyModelUrl } from "@shoal/tiny-model";
import { FIXTURES } from "./golden.ts";

export interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

export type CheckpointName = "tiny" | "ragged-v3-fp8" | "micro-v2-bf16";

export class Models {
  readonly engine: DenoEngine;
  #gpu: Promise<GpuContext> | undefined;
  readonly #checkpoints = new Map<CheckpointName, Promise<CheckpointSource>>();
  readonly #stages = new Map<string, Promise<LocalStage>>();

  readonly #choices: ReadonlyMap<string, string>;

  /** @param choices variants of kernels that run in place of those that the device prefers */
  constructor(engine: DenoEngine, choices: ReadonlyMap<string, string> = new Map()) {
    this.engine = engine;
    this.#choices = choices;
  }

  gpu(): Promise<GpuContext> {
    // Fixtures are of exact arithmetic: their tolerances are narrower than activations rounded to f16.
    this.#gpu ??= openDenoGpu({ webgpu: this.engine, subgroupMatrix: "precise", choices: this.#choices });
    return this.#gpu;
  }

  checkpoint(name: CheckpointName): Promise<CheckpointSource> {
    let checkpoint = this.#checkpoints.get(name);
    if (!checkpoint) {
      checkpoint = openDirectory(name === "tiny" ? tinyModelUrl.pathname : `${FIXTURES}${name}`);
      this.#checkpoints.set(name, checkpoint);
    }
    return checkpoint;
  }

  /** A stage of those options, the same one each time: its sequences must be closed after use. The KV cache is f32 unless the options say otherwise. */
  stage(name: CheckpointName, options: LocalStageOptions = {}): Promise<LocalStage> {
    const key = `${name} ${JSON.stringify(options)}`;
    let stage = this.#stages.get(key);
    if (!stage) {
      stage = this.#load(name, options);
      this.#stages.set(key, stage);
    }
    return stage;
  }

  /** The trained model, for prompts of up to 2048 tokens in steps of 256; all logits and drafts. */
  tiny(mode: NumericMode): Promise<LocalStage> {
    return this.stage("tiny", { mode, mtp: true, contextTokens: 2048, maxTokens: 256, maxOutputs: 256 });
  }

  /** A random model, for prompts of up to 160 tokens in one step; two sequences. */
  micro(name: CheckpointName, mode: NumericMode): Promise<LocalStage> {
    return this.stage(name, { mode, mtp: true, contextTokens: 256, maxTokens: 160, maxOutputs: 160, maxSequences: 2 });
  }

  async #load(name: CheckpointName, options: LocalStageOptions): Promise<LocalStage> {
    return loadLocalStage(await this.gpu(), await this.checkpoint(name), { kvFormat: "f32", ...options });
  }

  /** The case that ends a file. */
  closing(): GpuTest {
    return {
      name: "the device closes without an error of its own",
      run: async () => {
        const gpu = await this.gpu();
        await gpu.idle();
        for (const checkpoint of this.#checkpoints.values()) await (await checkpoint).close();
        gpu.destroy();
      },
    };
  }
}
