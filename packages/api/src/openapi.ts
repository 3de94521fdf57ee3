/** The OpenAPI document, made from the schemas that requests are checked against. */
import { z } from "zod";
import { chatCompletion, completion, errorBody, health, model, modelList } from "./schemas/answers.ts";
import { chatRequest } from "./schemas/chat.ts";
import { completionRequest } from "./schemas/completions.ts";

export function openApiDocument(): Readonly<Record<string, unknown>> {
  const json = (schema: z.ZodType): unknown => ({ "application/json": { schema: z.toJSONSchema(schema, { io: "input" }) } });
  const error = { description: "An error that names the field", content: json(errorBody) };
  const ask = (summary: string, request: z.ZodType, answer: z.ZodType): unknown => ({
    post: {
      summary,
      requestBody: { required: true, content: json(request) },
      responses: { 200: { description: "The answer; with `stream` server-sent events", content: json(answer) }, default: error },
    },
  });
  const read = (summary: string, answer: z.ZodType): object => ({
    get: { summary, responses: { 200: { description: summary, content: json(answer) }, default: error } },
  });
  return {
    openapi: "3.1.0",
    info: { title: "Shoal", version: "1" },
    paths: {
      "/v1/chat/completions": ask("Answers a chat", chatRequest, chatCompletion),
      "/v1/completions": ask("Goes on where a prompt ends", completionRequest, completion),
      "/v1/models": read("The model that is served", modelList),
      "/v1/models/{model}": {
        ...read("One model", model),
        parameters: [{ name: "model", in: "path", required: true, schema: { type: "string" } }],
      },
      "/health": read("Whether requests are taken", health),
      "/metrics": {
        get: {
          summary: "Counters for Prometheus",
          responses: { 200: { description: "Text", content: { "text/plain": { schema: { type: "string" } } } } },
        },
      },
      "/openapi.json": {
        get: { summary: "This document", responses: { 200: { description: "JSON", content: { "application/json": { schema: {} } } } } },
      },
    },
  };
}
