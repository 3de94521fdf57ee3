/**
 * Ends the process without its exit handlers. `Deno.exit` runs them, those of graphics drivers among them, while the GPU worker may still be inside the driver:
 * one run in 25 that ended while Dawn opened a device ended with a crash instead of its exit code (Deno 2.9.6, `webgpu` 0.6.2, llvmpipe).
 */
const LIBRARIES: Readonly<Record<string, readonly string[]>> = {
  linux: ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`],
  darwin: ["libSystem.dylib"],
};

export function exitNow(code: number): never {
  for (const library of LIBRARIES[Deno.build.os] ?? []) {
    try {
      Deno.dlopen(library, { exit: { name: "_exit", parameters: ["i32"], result: "void" } }).symbols.exit(code);
    } catch {
      // Not the library of this system: the next one, or the ordinary way.
    }
  }
  return Deno.exit(code);
}
