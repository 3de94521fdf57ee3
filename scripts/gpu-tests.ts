/**
 * Runs the engine tests in Deno: `deno run -A scripts/gpu-tests.ts [FILE...]`, when no file is named every `*.gpu.test.ts` of the workspace, and those
 * of one engine, `*.wgpu.test.ts` or `*.dawn.test.ts`.
 * A test file exports `tests(engine)`, which gives named cases. SHOAL_WEBGPU=wgpu|dawn|auto picks the engine, SHOAL_FILTER=TEXT the cases by name;
 * SHOAL_LIMITS=default clamps every device that a test does not open otherwise to what WebGPU promises everywhere.
 *
 * Not `deno test`: under it (Deno 2.9.6) Dawn's addon, which waits by scheduling immediates, makes the runner copy an ever growing list on every turn
 * of the event loop, and a readback of a millisecond takes minutes.
 */
import { readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";

export interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void> | void;
}

/** What such a file exports. */
export interface GpuTestFile {
  tests(engine: "auto" | "wgpu" | "dawn"): Promise<readonly GpuTest[]> | readonly GpuTest[];
}

function testFiles(): string[] {
  return ["packages", "apps"].flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((file) => (file.endsWith(".gpu.test.ts") || file.endsWith(`.${engine}.test.ts`)) && !file.includes("node_modules"))
      .map((file) => `${root}/${file}`),
  );
}

const engine = Deno.env.get("SHOAL_WEBGPU") ?? "auto";
if (engine !== "auto" && engine !== "wgpu" && engine !== "dawn") {
  console.error(`SHOAL_WEBGPU is '${engine}', expected auto, wgpu or dawn`);
  Deno.exit(2);
}
const limits = Deno.env.get("SHOAL_LIMITS") ?? "";
const filter = Deno.env.get("SHOAL_FILTER") ?? "";
const files = Deno.args.length > 0 ? Deno.args : testFiles().sort();
let passed = 0;
let failed = 0;
for (const file of files) {
  console.log(`# ${file} on ${engine}${limits === "default" ? ", limits clamped to WebGPU's defaults" : ""}`);
  let cases: readonly GpuTest[] = [];
  try {
    const module: GpuTestFile = await import(pathToFileURL(file).href);
    cases = await module.tests(engine);
  } catch (error) {
    failed++;
    console.log(`not ok - ${file} does not load`);
    console.log(error);
  }
  for (const { name, run } of cases) {
    if (!name.includes(filter)) continue;
    const start = performance.now();
    try {
      await run();
      passed++;
      console.log(`ok - ${name} (${Math.round(performance.now() - start)} ms)`);
    } catch (error) {
      failed++;
      console.log(`not ok - ${name}`);
      console.log(error);
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
Deno.exit(failed > 0 || passed === 0 ? 1 : 0);
