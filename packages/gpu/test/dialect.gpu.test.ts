/** What a device is found to be able to do. */
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { passesF16SelfTest, passesSubgroupMatrixSelfTest } from "../src/selftest.ts";

function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

export function tests(webgpu: DenoEngine): readonly { name: string; run: () => Promise<void> }[] {
  return [
    {
      name: "openDenoGpu() takes f16 where its self-test passes, and subgroup matrices only with it",
      run: async () => {
        const gpu = await openDenoGpu({ webgpu });
        const { f16, subgroupMatrix } = gpu.dialect;
        expect(f16 === gpu.device.features.has("shader-f16"), `f16 is ${f16}`);
        expect(!f16 || (await passesF16SelfTest(gpu)), "the self-test of f16 does not pass again");
        expect(subgroupMatrix === undefined || f16, "there are subgroup matrices without f16");
        if (subgroupMatrix)
          expect(await passesSubgroupMatrixSelfTest(gpu, "hardware"), "the self-test of subgroup matrices does not pass again");
        gpu.destroy();
      },
    },
    {
      name: "openDenoGpu() leaves out what options turn off",
      run: async () => {
        for (const options of [{ subgroupMatrix: false }, { f16: false }, { subgroups: false }] as const) {
          const gpu = await openDenoGpu({ webgpu, ...options });
          expect(gpu.dialect.subgroupMatrix === undefined, `there are subgroup matrices with ${JSON.stringify(options)}`);
          expect(!("f16" in options) || !gpu.dialect.f16, "there is f16");
          gpu.destroy();
        }
      },
    },
    {
      name: "the self-test of subgroup matrices passes where they are emulated",
      run: async () => {
        const gpu = await openDenoGpu({ webgpu });
        expect(await passesSubgroupMatrixSelfTest(gpu, "emulated"), "it fails");
        gpu.destroy();
      },
    },
  ];
}
