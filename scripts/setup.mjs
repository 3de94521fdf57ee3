/**
 * Sets a checkout up: dependencies, Deno, a GPU driver. `npm start`, `npm run shoal` and `npm test` do this by themselves.
 *
 *   node scripts/setup.mjs               set up, and say what there is
 *   node scripts/setup.mjs --print-env   set up, and print the environment for Deno as `export` lines: eval "$(...)"
 */
import { ensureReady, gpuEnvironmentOnly } from "./setup/ensure.mjs";
import { exportLines } from "./setup/environment.mjs";
import { reportText } from "./setup/errors.mjs";

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== "--print-env");
if (unknown !== undefined) {
  process.stderr.write(`Cannot set up: unknown argument "${unknown}", expected nothing or --print-env\n`);
  process.exitCode = 2;
} else {
  try {
    if (args.includes("--print-env")) {
      process.stdout.write(exportLines(await gpuEnvironmentOnly()));
    } else {
      const { deno, adapter } = await ensureReady();
      process.stdout.write(`Ready. Deno: ${deno}\nGPU: ${adapter === "" ? "left to the system" : adapter}\n`);
    }
  } catch (error) {
    process.stderr.write(`${reportText(error)}\n`);
    process.exitCode = 1;
  }
}
