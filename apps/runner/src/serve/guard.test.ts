import { describe, expect, it } from "vitest";
import { corsHeaders, guard } from "./guard.ts";

const ask = (url: string, init?: RequestInit): Request => new Request(url, init);
const bearer = (key: string): RequestInit => ({ headers: { authorization: `Bearer ${key}` } });
const OPEN = { apiKey: undefined, loopback: true, origins: [] };
const KEYED = { apiKey: "secret", loopback: false, origins: [] };

describe("guard()", () => {
  it("lets this machine ask by its own names, and no name that points to it", () => {
    for (const name of ["localhost", "127.0.0.1", "[::1]"]) expect(guard(ask(`http://${name}:8080/v1/models`), OPEN)).toBeUndefined();
    expect(guard(ask("http://evil.example:8080/v1/models"), OPEN)?.status).toBe(403);
    expect(guard(ask("http://127.0.0.1.evil.example/v1/models"), OPEN)?.status).toBe(403);
  });

  it("asks for the key, wherever it is asked for, but for /health", async () => {
    const url = "http://host.example/v1/models";
    expect(guard(ask(url, bearer("secret")), KEYED)).toBeUndefined();
    for (const init of [undefined, bearer("secre"), bearer("secret2"), { headers: { authorization: "secret" } }]) {
      const refused = guard(ask(url, init), KEYED);
      expect(refused?.status).toBe(401);
      expect(JSON.stringify(await refused?.json())).toContain("invalid_api_key");
    }
    expect(guard(ask("http://host.example/health"), KEYED)).toBeUndefined();
  });

  it("tells browsers which pages may read answers", () => {
    expect(corsHeaders("https://a.example", [])).toEqual({});
    expect(corsHeaders(null, ["*"])).toEqual({});
    expect(corsHeaders("https://a.example", ["https://b.example"])).toEqual({});
    expect(corsHeaders("https://a.example", ["https://a.example"])["access-control-allow-origin"]).toBe("https://a.example");
    expect(corsHeaders("https://a.example", ["*"])["access-control-allow-origin"]).toBe("*");
    const preflight = { method: "OPTIONS", headers: { origin: "https://a.example" } };
    const answer = guard(ask("http://localhost/v1/chat/completions", preflight), { ...OPEN, origins: ["https://a.example"] });
    expect(answer?.status).toBe(204);
    expect(answer?.headers.get("access-control-allow-origin")).toBe("https://a.example");
    expect(guard(ask("http://localhost/", preflight), OPEN)?.headers.get("access-control-allow-origin")).toBeNull();
  });
});
