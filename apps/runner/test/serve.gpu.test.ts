/** `shoal serve` as clients see it, on the embedded model: OpenAI's own client for what it can ask, fetch for what it cannot. */
import type { DenoEngine } from "@shoal/gpu/deno";
import OpenAI, { APIError } from "openai";
import { check, serving } from "./serving.ts";
import { shoal } from "./shoal.ts";

interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

const QUESTION = [{ role: "user" as const, content: "What is the capital of France?" }];
const ANSWER = "The capital of France is Paris.";
const MODEL = "shoal-tiny";
/** The tokens " Paris" and " France". */
const [PARIS, FRANCE] = [1876, 2590];

/** Bias, penalties and log probabilities, as OpenAI's client asks for them. */
async function checkSampling(client: OpenAI): Promise<void> {
  const question = { model: MODEL, messages: QUESTION, temperature: 0 };
  const told = await client.chat.completions.create({ ...question, logprobs: true, top_logprobs: 2, logit_bias: { [PARIS]: -100 } });
  const content = told.choices[0]?.logprobs?.content ?? [];
  const text = told.choices[0]?.message.content ?? "";
  check(!text.includes("Paris") && content.map(({ token }) => token).join("") === text, `biased: ${JSON.stringify(told.choices[0])}`);
  // Of the model itself: the token that bias kept out is still its likeliest.
  check(
    content.some((one) => one.top_logprobs[0]?.token === " Paris" && one.logprob < one.top_logprobs[0].logprob),
    "Paris was never likely",
  );
  // One of two words, ever again: each time that it is said makes it less likely.
  const penalized = await client.chat.completions.create({
    ...question,
    logit_bias: { [PARIS]: 100, [FRANCE]: 100 },
    frequency_penalty: 2,
    max_tokens: 40,
  });
  const said = penalized.choices[0]?.message.content ?? "";
  const counts = ["Paris", "France"].map((word) => said.split(word).length - 1);
  check(Math.min(...counts) >= 5 && (counts[0] ?? 0) + (counts[1] ?? 0) === 40, `penalized: ${said}`);
  const scored = await client.completions.create({
    model: MODEL,
    prompt: "The capital of France is Paris.",
    echo: true,
    logprobs: 1,
    max_tokens: 0,
  });
  const { tokens = [], token_logprobs: values = [] } = scored.choices[0]?.logprobs ?? {};
  const paris = values[tokens.indexOf(" Paris")] ?? Number.NaN;
  check(tokens.length === values.length && values[0] === null && paris > -3, `scored: ${JSON.stringify(scored.choices[0])}`);
}

export function tests(webgpu: DenoEngine): readonly GpuTest[] {
  return [
    {
      name: "OpenAI's client chats, streams, stops, counts, lists models and is told what is wrong; clients that hang up leave nothing behind",
      run: async () => {
        const log = await serving(webgpu, async (url) => {
          const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
          const greedy = { model: MODEL, messages: QUESTION, temperature: 0 };
          const whole = await client.chat.completions.create(greedy);
          check(whole.choices[0]?.message.content === ANSWER, `it answered ${JSON.stringify(whole.choices[0])}`);
          check(
            whole.choices[0]?.finish_reason === "stop" && whole.usage?.completion_tokens === 8,
            `it counted ${JSON.stringify(whole.usage)}`,
          );
          let text = "";
          let tokens: number | undefined;
          for await (const chunk of await client.chat.completions.create({
            ...greedy,
            stream: true,
            stream_options: { include_usage: true },
          })) {
            text += chunk.choices[0]?.delta.content ?? "";
            tokens = chunk.usage?.total_tokens ?? tokens;
          }
          check(text === ANSWER && tokens === 18, `streamed: ${text}, ${tokens} tokens`);
          const cut = await client.chat.completions.create({ ...greedy, stop: [" France"] });
          check(cut.choices[0]?.message.content === "The capital of", `stopped: ${cut.choices[0]?.message.content}`);
          const drawn = {
            model: MODEL,
            messages: [{ role: "user" as const, content: "Tell me a story" }],
            temperature: 1.5,
            seed: 7,
            max_tokens: 20,
          };
          const [one, two] = await Promise.all([client.chat.completions.create(drawn), client.chat.completions.create(drawn)]);
          check(one.choices[0]?.message.content === two.choices[0]?.message.content, "the same seed gave two answers");
          const models = await client.models.list();
          check(models.data[0]?.id === MODEL, `models: ${JSON.stringify(models.data)}`);
          const refused = await client.chat.completions.create({ ...greedy, temperature: -1 }).then(
            () => undefined,
            (error: unknown) => (error instanceof APIError ? error : undefined),
          );
          check(refused?.status === 400 && refused.param === "temperature", `refused with ${refused?.status} ${refused?.param}`);
          await checkSampling(client);
          const stream = await client.chat.completions.create({ ...drawn, max_tokens: 1000, stream: true });
          for await (const _ of stream) break;
          stream.controller.abort();
          // The place is free when the engine has heard of it.
          for (let tries = 0; tries < 50; tries++) {
            const health: unknown = await (await fetch(`${url}/health`)).json();
            if (JSON.stringify(health).includes('"running":0')) return;
            await new Promise((resolve) => setTimeout(resolve, 100));
          }
          throw new Error("an answer whose client hung up still runs");
        });
        check(!log.includes("capital of France"), "the log holds what people wrote");
        check(log.includes('"finishReasons":["stop"]'), `the log: ${log}`);
      },
    },
    {
      name: "a server with a key answers only those who have it, and an address of others is refused without one",
      run: async () => {
        const ask = (url: string, key: string): Promise<Response> =>
          fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
        const env = { SHOAL_API_KEY: "a secret" };
        await serving(
          webgpu,
          async (url) => {
            const [with_, without, health] = [await ask(url, "a secret"), await ask(url, "another"), await fetch(`${url}/health`)];
            check(
              with_.status === 200 && without.status === 401 && health.status === 200,
              `${with_.status} ${without.status} ${health.status}`,
            );
            for (const response of [with_, without, health]) await response.body?.cancel();
          },
          env,
        );
        const open = await shoal(["serve", "--host", "0.0.0.0", "--port", "0"], { env: { SHOAL_API_KEY: "" } });
        check(open.code === 2 && open.stderr.includes("without an API key"), `${open.code}: ${open.stderr}`);
      },
    },
  ];
}
