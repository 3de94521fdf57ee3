/** A server for as long as a test needs it. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { on, shoal } from "./shoal.ts";

export function check(holds: boolean, message: string): void {
  if (!holds) throw new Error(message);
}

/** Starts a server, uses it, and ends it by Ctrl-C. */
export async function serving(webgpu: DenoEngine, use: (url: string) => Promise<void>, env: Record<string, string> = {}): Promise<string> {
  let using: Promise<unknown> | undefined;
  let ended = false;
  const { code, stderr } = await shoal(["serve", "--port", "0", ...on(webgpu)], {
    env,
    interruptWhen: ({ stdout }) => {
      const url = /on (http:\S+)\/v1/.exec(stdout)?.[1];
      if (url !== undefined)
        using ??= use(url).then(
          () => (ended = true),
          (error: unknown) => ((ended = true), error),
        );
      return ended;
    },
  });
  const failure = await using;
  if (failure instanceof Error) throw failure;
  check(using !== undefined, `the server never listened: ${stderr}`);
  check(code === 0, `the server ended with ${code}: ${stderr}`);
  return stderr;
}
