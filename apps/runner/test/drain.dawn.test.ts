/** How `shoal serve` ends: by a first signal it lets answers finish and takes no others, by a second one it ends at once, and nobody holds it up for ever. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { type RunningServer, startServer } from "./server.ts";
import { check } from "./serving.ts";
import { on } from "./shoal.ts";

interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

/** The token that ends an answer. */
const END = 1;
const TOKENS = 100;
/** Far above what an end takes, far below what an answer is given. */
const ENDING_MS = 30_000;

interface Answer {
  /** Everything so far. */
  text(): string;
  /** Resolves with what failed. */
  readonly over: Promise<unknown>;
}

/** An answer that never ends by itself, of which some has come. */
async function longAnswer({ url }: RunningServer, tokens: number): Promise<Answer> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      messages: [{ role: "user", content: "Tell me a story" }],
      temperature: 0,
      logit_bias: { [END]: -100 },
      max_tokens: tokens,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  check(response.status === 200 && response.body !== null, `it answered with ${response.status}`);
  let text = "";
  const begun = Promise.withResolvers<void>();
  const read = async (): Promise<unknown> => {
    try {
      for await (const piece of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
        text += piece;
        if (text.split("data: ").length >= 4) begun.resolve();
      }
      return undefined;
    } catch (error) {
      return error;
    } finally {
      begun.reject(new Error(`the answer ended at once: ${text}`));
    }
  };
  const over = read();
  await begun.promise;
  return { text: () => text, over };
}

/** Fails rather than hangs; a server that is still there then is ended by force. */
async function endOf(server: RunningServer): Promise<{ readonly code: number; readonly stderr: string }> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`the server has not ended after ${ENDING_MS} ms`)), ENDING_MS);
  try {
    return await Promise.race([server.ended, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when it takes no further connections. */
async function untilClosed({ url }: RunningServer): Promise<void> {
  const { hostname, port } = new URL(url);
  for (const begin = performance.now(); performance.now() - begin < ENDING_MS;) {
    try {
      (await Deno.connect({ hostname, port: Number(port) })).close();
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionRefused) return;
      // One that was in the queue when the server closed it.
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("the server still takes connections");
}

async function withServer(webgpu: DenoEngine, args: readonly string[], use: (server: RunningServer) => Promise<void>): Promise<void> {
  const server = await startServer([...args, ...on(webgpu)]);
  try {
    await use(server);
  } finally {
    await server.stop();
  }
}

export function tests(webgpu: DenoEngine): readonly GpuTest[] {
  return [
    {
      name: "a server that gets SIGTERM finishes the answer that it is writing, refuses further connections, and ends with 0",
      run: () =>
        withServer(webgpu, [], async (server) => {
          const answer = await longAnswer(server, TOKENS);
          server.signal("SIGTERM");
          await untilClosed(server);
          const when = answer.text();
          check(!when.includes('finish_reason":"length'), "the answer had ended before connections were refused: the test shows nothing");
          const [failure, { code, stderr }] = await Promise.all([answer.over, endOf(server)]);
          check(failure === undefined, `the answer broke off: ${String(failure)}`);
          const text = answer.text();
          check(
            text.trimEnd().endsWith("data: [DONE]") && text.includes(`"completion_tokens":${TOKENS}`),
            `it ended with ${text.slice(-400)}`,
          );
          check(code === 0 && !stderr.includes("cut off"), `the server ended with ${code}: ${stderr}`);
          check(!stderr.includes("request.signal"), `whoever runs it reads what Deno tells developers: ${stderr}`);
        }),
    },
    {
      name: "a second signal ends a server at once, whatever it is writing",
      run: () =>
        withServer(webgpu, ["--context", "2048"], async (server) => {
          const answer = await longAnswer(server, 2000);
          server.signal("SIGTERM");
          // They are two only if the first has been heard.
          await untilClosed(server);
          server.signal("SIGINT");
          const { code, stderr } = await endOf(server);
          check(code === 130, `the server ended with ${code}: ${stderr}`);
          await answer.over;
          check(!answer.text().includes("[DONE]"), "the answer had ended before: the test shows nothing");
        }),
    },
    {
      name: "a server that is told to end cuts answers off after its time, says so to their readers, and ends with 0",
      run: () =>
        withServer(webgpu, ["--context", "2048", "--drain-timeout", "0"], async (server) => {
          const answer = await longAnswer(server, 2000);
          server.signal("SIGTERM");
          const [, { code, stderr }] = await Promise.all([answer.over, endOf(server)]);
          check(code === 0 && stderr.includes("cut off"), `the server ended with ${code}: ${stderr}`);
          check(answer.text().includes('data: {"error":'), `its reader heard ${answer.text().slice(-300)}`);
        }),
    },
  ];
}
