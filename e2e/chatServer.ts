/** An OpenAI-compatible server of another origin than the page: it wants a key, and says the same to everybody. */
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface ChatServer {
  /** With the version. */
  readonly url: string;
  /** Bodies of what was asked. */
  readonly requests: readonly unknown[];
  close(): Promise<void>;
}

export interface ChatServerOptions {
  readonly key: string;
  readonly model: string;
  readonly pieces: readonly string[];
}

export async function startChatServer({ key, model, pieces }: ChatServerOptions): Promise<ChatServer> {
  const requests: unknown[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const cors = {
      "access-control-allow-origin": request.headers.origin ?? "",
      "access-control-allow-headers": "authorization, content-type",
    };
    const json = (status: number, body: unknown): void =>
      void response.writeHead(status, { ...cors, "content-type": "application/json" }).end(JSON.stringify(body));
    if (request.method === "OPTIONS") {
      response.writeHead(204, cors).end();
      return;
    }
    if (request.headers.authorization !== `Bearer ${key}`) {
      json(401, { error: { message: "wrong key", type: "authentication_error", param: null, code: "invalid_api_key" } });
      return;
    }
    if (request.url === "/v1/models") {
      json(200, { object: "list", data: [{ id: model, object: "model", created: 0, owned_by: "test" }] });
      return;
    }
    let body = "";
    for await (const part of request) body += String(part);
    requests.push(JSON.parse(body));
    response.writeHead(200, { ...cors, "content-type": "text/event-stream" });
    const send = (value: unknown): void => void response.write(`data: ${JSON.stringify(value)}\n\n`);
    for (const content of pieces)
      send({ object: "chat.completion.chunk", choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    send({ object: "chat.completion.chunk", choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
    send({ choices: [], usage: { prompt_tokens: 1, completion_tokens: pieces.length, total_tokens: 1 + pieces.length } });
    response.end("data: [DONE]\n\n");
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/v1`,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
