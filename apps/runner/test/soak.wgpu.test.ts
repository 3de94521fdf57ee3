/**
 * `shoal serve` under many streaming clients at once, of which some hang up at random: every answer that was finished is what the same request gets alone, and nothing is left
 * behind. A short run by default; SHOAL_LONG=1 takes 64 clients and a minute. Clients and server are on this machine, and both end by themselves.
 */
import { readFile, readdir } from "node:fs/promises";
import process from "node:process";
import type { DenoEngine } from "@shoal/gpu/deno";
import { type RunningServer, startServer } from "./server.ts";
import { on } from "./shoal.ts";

interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

interface Load {
  readonly clients: number;
  /** Each client begins no further request after it, milliseconds; */
  readonly durationMs: number;
  /** or after so many. */
  readonly requests: number;
  readonly maxSequences: number;
}

const SHORT: Load = { clients: 16, durationMs: 60_000, requests: 2, maxSequences: 8 };
const LONG: Load = { clients: 64, durationMs: 60_000, requests: Number.POSITIVE_INFINITY, maxSequences: 16 };
/** Of all requests; chosen by a seed, as everything else. */
const ABORTED = 0.1;
/** What the server's memory may grow by from the middle to the end: what a garbage collector leaves lying about. */
const MEMORY_SLACK = 1.1;
const MEMORY_SLACK_BYTES = 32 * 2 ** 20;
/** Looks at the server's memory in the time of the load. */
const SAMPLES = 12;

interface Ask {
  readonly path: "/v1/chat/completions" | "/v1/completions";
  readonly body: Readonly<Record<string, unknown>>;
}

interface Totals {
  finished: number;
  aborted: number;
  tokens: number;
}

function check(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}

/** Short and long, greedy and drawn, with and without penalties; some share their beginning. */
function requests(): readonly Ask[] {
  const chat = (content: string, more: object): Ask => ({
    path: "/v1/chat/completions",
    body: { messages: [{ role: "user", content }], ...more },
  });
  const text = (prompt: string, more: object): Ask => ({ path: "/v1/completions", body: { prompt, ...more } });
  const story = "Once upon a time there was a clever fox named Kate who lived near the valley.";
  return [
    chat("What is the capital of France?", { temperature: 0 }),
    chat("Tell me a story", { temperature: 0, max_tokens: 40 }),
    chat("Tell me a story", { temperature: 0.8, seed: 3, max_tokens: 25 }),
    chat("What is 4 plus 5?", { temperature: 0, max_tokens: 12, logprobs: true, top_logprobs: 3 }),
    text(story, { temperature: 0, max_tokens: 30 }),
    text(`${story} One day Kate found`, { temperature: 0.7, seed: 4, top_p: 0.9, max_tokens: 16 }),
    text(story, { temperature: 0, max_tokens: 4, stop: ["."] }),
    text(Array.from({ length: 6 }, () => story).join(" "), { temperature: 0, max_tokens: 10 }),
    text(story, { temperature: 0, frequency_penalty: 1.5, presence_penalty: 0.5, max_tokens: 20 }),
    text("The capital of", { temperature: 0, logit_bias: { 1876: 2 }, max_tokens: 8 }),
  ];
}

interface Streamed {
  readonly text: string;
  readonly chunks: number;
  /** False where it was hung up on. */
  readonly whole: boolean;
}

/** @param client whose connections are used @param hangUpAfter chunks; the answer may be shorter */
async function stream(
  url: string,
  client: Deno.HttpClient,
  { path, body }: Ask,
  hangUpAfter = Number.POSITIVE_INFINITY,
): Promise<Streamed> {
  const controller = new AbortController();
  const init: RequestInit & { readonly client: Deno.HttpClient } = {
    client,
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal: controller.signal,
  };
  const response = await fetch(`${url}${path}`, init);
  if (response.status !== 200 || !response.body) throw new Error(`Status ${response.status}: ${await response.text()}`);
  let raw = "";
  let chunks = 0;
  try {
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      raw += piece;
      chunks = raw.split("data: ").length - 1;
      if (chunks >= hangUpAfter && !raw.includes("[DONE]")) {
        controller.abort();
        return { text: "", chunks, whole: false };
      }
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  }
  check(raw.trimEnd().endsWith("data: [DONE]"), `a stream ended with '${raw.slice(-200)}'`);
  const events = raw.split("\n\n").filter((event) => event.startsWith("data: {"));
  const texts = events.map((event) => {
    const value = JSON.parse(event.slice(6)) as { error?: unknown; choices?: { text?: string; delta?: { content?: string } }[] };
    check(value.error === undefined, `a stream failed: ${event}`);
    return value.choices?.[0]?.text ?? value.choices?.[0]?.delta?.content ?? "";
  });
  return { text: texts.join(""), chunks, whole: true };
}

async function soak(server: RunningServer, load: Load): Promise<Totals> {
  const { url } = server;
  const asks = requests();
  const alone: string[] = [];
  const http = Deno.createHttpClient({});
  for (const ask of asks) alone.push((await stream(url, http, ask)).text);
  const totals: Totals = { finished: 0, aborted: 0, tokens: 0 };
  const until = performance.now() + load.durationMs;
  const client = async (seed: number): Promise<void> => {
    const random = randomOf(seed);
    for (let done = 0; done < load.requests && performance.now() < until; done++) {
      const index = Math.floor(random() * asks.length);
      const ask = asks[index];
      if (!ask) continue;
      const hangsUp = random() < ABORTED;
      const { text, chunks, whole } = await stream(url, http, ask, hangsUp ? 1 + Math.floor(random() * 8) : undefined);
      totals.tokens += chunks;
      if (!whole) {
        totals.aborted++;
        continue;
      }
      totals.finished++;
      check(text === alone[index], `Beside others '${JSON.stringify(ask.body)}' got '${text}', alone '${alone[index]}'`);
    }
  };
  const before = await footprint(server);
  const clients = Promise.all(Array.from({ length: load.clients }, (_, seed) => client(seed + 1)));
  const samples = await sampled(clients, load.durationMs / SAMPLES, () => footprint(server));
  await clients;
  await idle(url);
  // Then what is left open is the server's own.
  http.close();
  const mostFiles = before.files + 8;
  let after = await footprint(server);
  for (let tries = 0; tries < 100 && after.files > mostFiles; tries++) {
    await delay(100);
    after = await footprint(server);
  }
  const memory = [before, ...samples, after].map(({ bytes }) => mebibytes(bytes));
  console.log(
    `    ${totals.finished} answers finished, ${totals.aborted} hung up on, ${totals.tokens} chunks; MiB of memory ${memory.join(" ")}; files ${before.files}, then ${after.files}`,
  );
  // Queues, buffers and code have their size after half of it.
  const warm = samples[Math.floor(samples.length / 2)] ?? before;
  const most = warm.bytes * MEMORY_SLACK + MEMORY_SLACK_BYTES;
  check(after.bytes <= most, `the server has ${mebibytes(after.bytes)} MiB, expected at most ${mebibytes(most)}`);
  check(after.files <= mostFiles, `the server has ${after.files} files open, at first ${before.files}`);
  return totals;
}

/** What `sample` gives every `ms` until `work` ends. */
async function sampled<T>(work: Promise<unknown>, ms: number, sample: () => Promise<T>): Promise<readonly T[]> {
  const samples: T[] = [];
  let over = false;
  const end = (): void => void (over = true);
  work.then(end, end);
  for (;;) {
    await Promise.race([delay(ms), work.catch(() => {})]);
    if (over) return samples;
    samples.push(await sample());
  }
}

interface Footprint {
  readonly bytes: number;
  readonly files: number;
}

/** Of the server's process, where the system tells. */
async function footprint({ pid }: RunningServer): Promise<Footprint> {
  if (process.platform !== "linux") return { bytes: 0, files: 0 };
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const files = await readdir(`/proc/${pid}/fd`);
  return { bytes: Number(/VmRSS:\s*(\d+)/.exec(status)?.[1] ?? 0) * 1024, files: files.length };
}

/** Waits until nothing runs; then every KV block is free, or kept for later prompts. */
async function idle(url: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const text = await (await fetch(`${url}/metrics`)).text();
    const value = (name: string): number =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`shoal_${name} `))
          ?.split(" ")
          .at(-1),
      );
    const [running, waiting] = [value("requests_running"), value("requests_waiting")];
    const [total, free, cached] = ["total", "free", "cached"].map((state) => value(`kv_blocks{state="${state}"}`));
    const held = (total ?? 0) - (free ?? 0) - (cached ?? 0);
    if (running === 0 && waiting === 0 && held === 0) return;
    check(tries < 100, `${running} requests run, ${waiting} wait, ${held} KV blocks of ${total} are held by nobody that runs`);
    await delay(100);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export function tests(webgpu: DenoEngine): readonly GpuTest[] {
  const load = process.env["SHOAL_LONG"] === "1" ? LONG : SHORT;
  return [
    {
      name: `${load.clients} streaming clients, some of whom hang up, get what each request gets alone, and leave nothing behind`,
      run: async () => {
        const places = ["--max-sequences", String(load.maxSequences), "--max-queue", "256", "--max-per-client", "256", "--context", "512"];
        const server = await startServer([...places, ...on(webgpu)]);
        try {
          const { finished, aborted } = await soak(server, load);
          check(finished > load.clients / 2 && aborted > 0, `${finished} answers finished, ${aborted} were hung up on`);
        } finally {
          const { code, stderr } = await server.stop();
          const faults = stderr.split("\n").filter((line) => line.includes('"fault"') || line.includes('"status":5'));
          if (code !== 0 || faults.length > 0)
            console.log(`    the server ended with ${code}: ${faults.join("\n")} ${stderr.slice(-1000)}`);
          check(code === 0 && faults.length === 0, `the server ended with ${code}, ${faults.length} faults`);
        }
      },
    },
  ];
}
