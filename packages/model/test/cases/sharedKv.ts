/** KV blocks that several sequences hold, chunks of a prompt that choose nothing, and a sequence that moves to another stage. */
import { type KvBlock, type LocalStage, ModelError, type SequenceSlot, flawOfKv } from "@shoal/model";
import { check, checkRows, maxError, report, rowErrors } from "../support/compare.ts";
import { continuation, logits, logitsOf, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const NAME = "ragged-v3-fp8";
/** Other kernels sum in another order. */
const TOLERANCE = 1e-4;
const DECODED = 12;

export function sharedKv(models: Models): readonly GpuTest[] {
  const prompt = async (item: string): Promise<readonly number[]> =>
    (await readGolden(`${NAME}-golden.safetensors`)).ints(`${item}.input_ids`);
  const sharing: GpuTest = {
    name: "a sequence that begins with another's KV blocks goes on as if it had computed them, and leaves them as they were",
    run: async () => {
      const on = await models.micro(NAME, "w8a32");
      const { kvBlockSize, freeKvBlocks: all } = await on.describe();
      const ids = await prompt("case2");
      const other = (await prompt("case1")).slice(1);
      const blocks = Math.floor(ids.length / kvBlockSize);
      const common = ids.slice(0, blocks * kvBlockSize);
      const expected = await withSequence(on, (sequence) => logitsOf(on, sequence, [...common, ...other]));
      const expectedRows = expected.subarray(common.length * on.config.vocabSize);
      let freed: KvBlock | undefined;
      await withSequence(on, async (first) => {
        await prefill(on, first, ids);
        const before = await lastLogits(on, first, 7);
        const held = await on.retain(first, 0, blocks);
        await withBlocks(on, held, async (second) => {
          check((await on.describe()).freeKvBlocks === all - Math.ceil((ids.length + 1) / kvBlockSize), "a shared block was taken twice");
          const rows = await logitsOf(on, second, other);
          const worst = checkRows("logits after shared blocks", rowErrors(rows, expectedRows, on.config.vocabSize), TOLERANCE);
          report(`largest difference ${worst.toExponential(1)}`);
          await refuses(() => on.truncate(second, common.length - 1), "a cut within a shared block");
        });
        await on.truncate(first, ids.length);
        check(maxError(await lastLogits(on, first, 7), before) === 0, "the first sequence changed");
        await on.release(held);
        await refuses(() => on.open([...held, 9999 as KvBlock]), "a block that nobody holds");
        [freed] = held;
      });
      check((await on.describe()).freeKvBlocks === all, "blocks are still held after everybody let go");
      const last = freed;
      if (last !== undefined) await refuses(() => on.release([last]), "a block that is free");
    },
  };
  const quiet: GpuTest = {
    name: "a quiet entry extends its sequence and chooses nothing",
    run: async () => {
      const on = await models.micro(NAME, "w8a32");
      const ids = (await prompt("case2")).slice(0, 40);
      const alone = await withSequence(on, async (sequence) => {
        await prefill(on, sequence, ids.slice(0, -1));
        return (await continuation(on, sequence, ids.at(-1) ?? 0, 1)).tokens;
      });
      await withSequence(on, (a) =>
        withSequence(on, async (b) => {
          await prefill(on, b, ids.slice(0, -1));
          const { step } = await on.forward({
            entries: [
              { sequence: a, tokens: ids.slice(0, 20), quiet: true },
              { sequence: b, tokens: ids.slice(-1) },
            ],
            output: "sample",
          });
          const silent = await on.forward({ entries: [{ sequence: a, tokens: ids.slice(20, -1), quiet: true }], output: "sample" });
          const last = await on.forward({ entries: [{ sequence: a, tokens: ids.slice(-1) }], output: "sample" });
          const steps = await on.sampled(step, last.step - step + 1);
          check(silent.step === step + 1 && steps[1]?.length === 0, `a step of quiet entries gave ${steps[1]?.join()}`);
          check(steps[0]?.join() === alone.join(), `beside a quiet entry ${steps[0]?.join()} was chosen, alone ${alone.join()}`);
          check(steps[2]?.join() === alone.join(), `after quiet chunks ${steps[2]?.join()} was chosen, alone ${alone.join()}`);
        }),
      );
    },
  };
  const moving = (["f32", "fp8"] as const).map((kvFormat) => ({
    name: `a sequence exported from one stage goes on in another with the same tokens, with a KV cache in ${kvFormat}`,
    run: async () => {
      const from = await models.stage(NAME, { kvFormat, contextTokens: 256, maxTokens: 160, maxOutputs: 160 });
      const to = await models.stage(NAME, { kvFormat, contextTokens: 192, maxTokens: 160, maxOutputs: 160, maxSequences: 2 });
      const ids = (await prompt("case2")).slice(0, 77);
      const { freeKvBlocks } = await to.describe();
      const [snapshot, expected] = await withSequence(from, async (sequence) => {
        await prefill(from, sequence, ids.slice(0, -1));
        const kv = await from.exportKv(sequence);
        return [kv, (await continuation(from, sequence, ids.at(-1) ?? 0, DECODED)).tokens] as const;
      });
      const sizes = { shape: from.config, tokens: ids.length - 1, layers: from.config.nLayers };
      check(flawOfKv(snapshot, sizes) === undefined, `the snapshot is found wrong: ${flawOfKv(snapshot, sizes)}`);
      check(snapshot.tokens === ids.length - 1, `the snapshot has ${snapshot.tokens} tokens, expected ${ids.length - 1}`);
      // Others in the way: the rows land in other blocks than they came from.
      await withSequence(to, async (before) => {
        await prefill(to, before, ids.slice(0, 40));
        const moved = await to.importKv(snapshot);
        const { tokens } = await continuation(to, moved, ids.at(-1) ?? 0, DECODED);
        check(tokens.join() === expected.join(), `went on with ${tokens.join()}, expected ${expected.join()}`);
        await to.close(moved);
        await refuses(() => to.importKv({ ...snapshot, format: "f16" }), "a snapshot in another format");
        await refuses(() => to.importKv({ ...snapshot, rowBytes: snapshot.rowBytes + 16 }), "a snapshot of other rows");
        await refuses(() => to.importKv({ ...snapshot, tokens: 300 }), "a snapshot that says it is longer");
        await refuses(() => to.importKv({ ...snapshot, layers: snapshot.layers.slice(1) }), "a snapshot that lacks a layer");
      });
      check((await to.describe()).freeKvBlocks === freeKvBlocks, "blocks of a refused or closed import are still held");
    },
  }));
  return [sharing, quiet, ...moving];
}

async function withBlocks(
  on: LocalStage,
  blocks: Awaited<ReturnType<LocalStage["retain"]>>,
  use: (sequence: SequenceSlot) => Promise<void>,
): Promise<void> {
  const sequence = await on.open(blocks);
  try {
    await use(sequence);
  } finally {
    await on.close(sequence);
  }
}

async function lastLogits(on: LocalStage, sequence: SequenceSlot, token: number): Promise<Float32Array<ArrayBuffer>> {
  return logits(await on.forward({ entries: [{ sequence, tokens: [token] }], output: "lastLogits" }));
}

async function refuses(call: () => Promise<unknown>, what: string): Promise<void> {
  const outcome = await call().then(
    () => "it was taken",
    (error: unknown) => (error instanceof ModelError ? undefined : `it threw ${String(error)}`),
  );
  check(outcome === undefined, `${what}: ${outcome}`);
}
