/**
 * Official clients, unmodified, against `shoal serve` and the embedded model: OpenAI's, and Vercel's AI SDK with its provider for compatible servers. The model is too small to call
 * tools by itself; where calls are required, grammars make it write valid ones.
 */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import type { DenoEngine } from "@shoal/gpu/deno";
import { APICallError, Output, generateText, streamText, tool } from "ai";
import OpenAI, { APIError, APIUserAbortError } from "openai";
import { z } from "zod";
import { check, serving } from "./serving.ts";

interface GpuTest {
  readonly name: string;
  readonly run: () => Promise<void>;
}

const MODEL = "shoal-tiny";
const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
const MESSAGES = [{ role: "user" as const, content: QUESTION }];
const CITIES = ["Paris", "Rome", "Oslo"] as const;
const WEATHER = {
  type: "function" as const,
  function: {
    name: "weather",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: [...CITIES] }, days: { type: "integer", minimum: 1, maximum: 7 } },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
};
const CLOCK = { type: "function" as const, function: { name: "clock" } };
/** In one order, so that what they say is a prefix that prompts share. */
const TOOLS = [WEATHER, CLOCK];
const weatherCall = z.strictObject({ city: z.enum(CITIES), days: z.int().min(1).max(7) });
const capital = z.strictObject({ capital: z.enum(CITIES), large: z.boolean() });

async function openAi(url: string): Promise<void> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const greedy = { model: MODEL, messages: MESSAGES, temperature: 0, max_tokens: 300 };
  const { completions } = client.chat;

  const whole = await completions.create({ ...greedy, logprobs: true, top_logprobs: 1 });
  check(whole.choices[0]?.message.content === ANSWER, `whole: ${JSON.stringify(whole.choices[0]?.message)}`);
  check(whole.usage?.completion_tokens === 8 && whole.usage.total_tokens === 18, `usage: ${JSON.stringify(whole.usage)}`);
  check(whole.choices[0]?.logprobs?.content?.map(({ token }) => token).join("") === ANSWER, "log probabilities of other tokens");

  const runner = completions.stream({ ...greedy, stream_options: { include_usage: true } });
  const final = await runner.finalChatCompletion();
  check(final.choices[0]?.message.content === ANSWER && final.usage?.completion_tokens === 8, `streamed: ${JSON.stringify(final)}`);
  const cut = await completions.create({ ...greedy, stop: [" France"] });
  check(
    cut.choices[0]?.message.content === "The capital of" && cut.choices[0].finish_reason === "stop",
    `stop: ${JSON.stringify(cut.choices)}`,
  );
  const drawn = { ...greedy, temperature: 2, max_tokens: 12, seed: 5 };
  const texts = await Promise.all([completions.create(drawn), completions.create(drawn)]);
  check(texts[0].choices[0]?.message.content === texts[1].choices[0]?.message.content, "the same seed gave two answers");

  const required = await completions.create({
    ...greedy,
    tools: TOOLS,
    tool_choice: "required",
    parallel_tool_calls: false,
  });
  const [choice] = required.choices;
  const [call] = choice?.message.tool_calls ?? [];
  check(
    choice?.finish_reason === "tool_calls" && choice.message.content === null && call?.type === "function",
    `required: ${JSON.stringify(choice)}`,
  );
  const named = completions.stream({
    ...greedy,
    tools: TOOLS,
    tool_choice: { type: "function", function: { name: "weather" } },
  });
  let pieces = 0;
  named.on("tool_calls.function.arguments.delta", () => pieces++);
  const calls = (await named.finalChatCompletion()).choices[0]?.message.tool_calls ?? [];
  const [asked] = calls;
  if (calls.length !== 1 || asked?.type !== "function" || asked.function.name !== "weather")
    throw new Error(`named: ${JSON.stringify(calls)}`);
  weatherCall.parse(JSON.parse(asked.function.arguments));
  check(pieces > 3, `the arguments came in ${pieces} pieces`);
  const after = await completions.create({
    ...greedy,
    max_tokens: 4,
    messages: [...MESSAGES, { role: "assistant", tool_calls: [asked] }, { role: "tool", tool_call_id: asked.id, content: "Sunny" }],
    tools: TOOLS,
  });
  check((after.usage?.completion_tokens ?? 0) > 0, "no answer to a tool's result");

  const schema = z.toJSONSchema(capital) as Record<string, unknown>;
  const format = { type: "json_schema" as const, json_schema: { name: "capital", strict: true, schema } };
  const json = await completions.create({ ...greedy, response_format: format });
  capital.parse(JSON.parse(json.choices[0]?.message.content ?? ""));
  const structured = await client.completions.create({
    model: MODEL,
    prompt: "Q",
    max_tokens: 60,
    ...({ structured_outputs: { regex: "(yes|no), \\d{2}!" } } as object),
  });
  check(/^(yes|no), \d{2}!$/.test(structured.choices[0]?.text ?? ""), `regex: ${structured.choices[0]?.text}`);

  const controller = new AbortController();
  const aborted = completions.create({ ...greedy, max_tokens: 1000, stream: true }, { signal: controller.signal });
  for await (const _ of await aborted) {
    controller.abort();
    break;
  }
  const refused = await completions
    .create({ ...greedy, max_tokens: 1000 }, { signal: AbortSignal.abort() })
    .catch((error: unknown) => error);
  check(refused instanceof APIUserAbortError, `aborted: ${String(refused)}`);
  for (const [more, field] of [
    [{ temperature: -1 }, "temperature"],
    [{ tools: [WEATHER], tool_choice: { type: "function", function: { name: "other" } } }, "tool_choice.function.name"],
    [
      { response_format: { ...format, json_schema: { ...format.json_schema, schema: { type: "integer", multipleOf: 3 } } } },
      "response_format.json_schema.schema.multipleOf",
    ],
    [{ structured_outputs: { regex: "(" } }, "structured_outputs.regex"],
    [{ structured_outputs: { grammar: "root ::= nowhere" } }, "structured_outputs.grammar"],
  ] as const) {
    const error: unknown = await completions.create({ ...greedy, ...(more as object) }).catch((thrown: unknown) => thrown);
    check(error instanceof APIError && error.status === 400 && error.param === field, `${field}: ${String(error)}`);
  }
}

async function aiSdk(url: string): Promise<void> {
  const provider = createOpenAICompatible({ name: "shoal", baseURL: `${url}/v1`, supportsStructuredOutputs: true, includeUsage: true });
  const model = provider(MODEL);
  const greedy = { model, prompt: QUESTION, temperature: 0, maxRetries: 0, maxOutputTokens: 300 };
  const whole = await generateText(greedy);
  check(
    whole.text === ANSWER && whole.finishReason === "stop" && whole.usage.outputTokens === 8,
    `whole: ${whole.text}, ${JSON.stringify(whole.usage)}`,
  );
  const stream = streamText(greedy);
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  check(text === ANSWER && (await stream.usage).outputTokens === 8, `streamed: ${text}`);
  const cut = await generateText({ ...greedy, stopSequences: [" France"] });
  check(cut.text === "The capital of", `stop: ${cut.text}`);
  const drawn = { ...greedy, temperature: 2, seed: 5, maxOutputTokens: 12 };
  const [one, two] = await Promise.all([generateText(drawn), generateText(drawn)]);
  check(one.text === two.text, "the same seed gave two answers");

  let told: unknown;
  const weather = tool({ description: "Tells the weather", inputSchema: weatherCall, execute: (input) => ((told = input), "Sunny") });
  const called = await generateText({ ...greedy, tools: { weather }, toolChoice: { type: "tool", toolName: "weather" } });
  weatherCall.parse(told);
  check(called.finishReason === "tool-calls" && called.toolResults[0]?.output === "Sunny", `called: ${called.finishReason}`);
  const streamed = streamText({
    ...greedy,
    tools: { weather },
    toolChoice: "required",
    providerOptions: { shoal: { parallel_tool_calls: false } },
  });
  let pieces = 0;
  for await (const part of streamed.fullStream) if (part.type === "tool-input-delta") pieces++;
  check((await streamed.toolCalls)[0]?.toolName === "weather" && pieces > 3, `streamed calls in ${pieces} pieces`);
  const object = await generateText({ ...greedy, output: Output.object({ schema: capital }) });
  capital.parse(object.output);

  const aborted = await generateText({ ...greedy, abortSignal: AbortSignal.timeout(1) }).catch((error: unknown) => error);
  check(aborted instanceof Error, "nothing was aborted");
  const refused: unknown = await generateText({ ...greedy, topP: 7 }).catch((error: unknown) => error);
  check(APICallError.isInstance(refused) && refused.statusCode === 400 && refused.message.includes("top_p"), `refused: ${String(refused)}`);
}

export function tests(webgpu: DenoEngine): readonly GpuTest[] {
  return [
    {
      name: "OpenAI's client chats, streams, calls tools, takes JSON of a schema, log probabilities, seeds, stops, usage, aborts and errors",
      run: () => withClient(webgpu, openAi),
    },
    {
      name: "Vercel's AI SDK chats, streams, calls tools, takes objects of a schema, seeds, stops, usage, aborts and errors",
      run: () => withClient(webgpu, aiSdk),
    },
  ];
}

async function withClient(webgpu: DenoEngine, use: (url: string) => Promise<void>): Promise<void> {
  await serving(webgpu, async (url) => {
    await use(url);
    // What was aborted gives its place back.
    for (let tries = 0; ; tries++) {
      const health = await (await fetch(`${url}/health`)).text();
      if (health.includes('"running":0')) break;
      check(tries < 100, `answers still run: ${health}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
}
