/** What programs read: the OpenAPI document, and Prometheus' text. */
import { describe, expect, it } from "vitest";
import { CHAT, open, post } from "./opened.ts";

interface OpenApi {
  readonly paths: Readonly<
    Record<
      string,
      {
        readonly post?: {
          readonly requestBody: { readonly content: { readonly "application/json": { readonly schema: { readonly properties: object } } } };
        };
      }
    >
  >;
}

/**
 * Reads Prometheus' text format 0.0.4 strictly: each family's HELP and TYPE once, before its samples, which stand together; no sample twice; counters end in `_total`.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 */
function exposition(text: string): ReadonlyMap<string, number> {
  expect(text.endsWith("\n")).toBe(true);
  const samples = new Map<string, number>();
  const families = new Set<string>();
  let family = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const [, keyword, name = "", rest = ""] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/.exec(line) ?? [];
    if (keyword === "HELP") {
      expect(families).not.toContain(name);
      families.add((family = name));
    } else if (keyword === "TYPE") {
      expect(name).toBe(family);
      expect(["counter", "gauge"]).toContain(rest);
      expect(name.endsWith("_total")).toBe(rest === "counter");
    } else {
      const label = String.raw`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`;
      const sample = new RegExp(`^(([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\\{${label}(?:,${label})*\\})?) (\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?)$`).exec(
        line,
      );
      expect([line, sample?.[2]]).toEqual([line, family]);
      expect(samples.has(sample?.[1] ?? "")).toBe(false);
      samples.set(sample?.[1] ?? "", Number(sample?.[3]));
    }
  }
  return samples;
}

describe("createApi()", () => {
  it("describes what it takes beyond OpenAI's protocol, and every path", async () => {
    const { api } = open();
    const document = (await (await api(new Request("http://localhost/openapi.json"))).json()) as OpenApi;
    expect(Object.keys(document.paths).toSorted()).toEqual([
      "/health",
      "/metrics",
      "/openapi.json",
      "/v1/chat/completions",
      "/v1/completions",
      "/v1/models",
      "/v1/models/{model}",
    ]);
    const fields = (path: string): readonly string[] =>
      Object.keys(document.paths[path]?.post?.requestBody.content["application/json"].schema.properties ?? {});
    const both = ["top_k", "min_p", "repetition_penalty", "stop_token_ids", "structured_outputs", "seed", "logit_bias"];
    expect(fields("/v1/chat/completions")).toEqual(
      expect.arrayContaining([...both, "thinking", "chat_template_kwargs", "response_format"]),
    );
    expect(fields("/v1/completions")).toEqual(expect.arrayContaining([...both, "suffix", "echo", "best_of"]));
    const text = JSON.stringify(document);
    for (const name of ["reasoning_content", "prefix", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "context_length"])
      expect(text).toContain(`"${name}":`);
  });

  it("counts in Prometheus' text format", async () => {
    const { api, engine } = open();
    await api(post(JSON.stringify(CHAT)));
    await api(post("{"));
    await api(new Request("http://localhost/v1/nothing"));
    const stream = await api(post(JSON.stringify({ ...CHAT, stream: true })));
    await stream.text();
    expect(engine.running).toBe(0);
    const response = await api(new Request("http://localhost/metrics"));
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const samples = exposition(await response.text());
    expect(samples.get('shoal_http_requests_total{route="/chat/completions",status="200"}')).toBe(2);
    expect(samples.get('shoal_http_requests_total{route="/chat/completions",status="400"}')).toBe(1);
    expect(samples.get("shoal_requests_running")).toBe(0);
  });
});
