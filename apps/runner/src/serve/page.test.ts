import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Page, openPage } from "./page.ts";

describe("openPage()", () => {
  let folder: string;
  let page: Page;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shoal-page-"));
    await mkdir(path.join(folder, "dist", "assets"), { recursive: true });
    await writeFile(path.join(folder, "secret"), "secret");
    await writeFile(path.join(folder, "dist", "index.html"), "<!doctype html>");
    await writeFile(path.join(folder, "dist", "sw.js"), "0123456789");
    await writeFile(path.join(folder, "dist", "assets", "index-a1B2c3D4.js"), "1");
    const opened = await openPage(path.join(folder, "dist"));
    if (!opened) throw new Error("no page");
    page = opened;
  });

  afterAll(() => rm(folder, { recursive: true }));

  const get = (url: string, init?: RequestInit): Response | undefined => page(new Request(`http://localhost${url}`, init));

  it("answers / with the page, which nobody may frame", async () => {
    const response = get("/");
    expect(await response?.text()).toBe("<!doctype html>");
    expect(response?.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(response?.headers.get("content-security-policy")).toBe("frame-ancestors 'none'");
    expect(response?.headers.get("x-content-type-options")).toBe("nosniff");
  });

  it("lets names with a hash be kept for ever, and others be asked for anew", async () => {
    expect(get("/assets/index-a1B2c3D4.js")?.headers.get("cache-control")).toContain("immutable");
    const fresh = get("/sw.js");
    expect(fresh?.headers.get("cache-control")).toBe("no-cache");
    const again = get("/sw.js", { headers: { "if-none-match": fresh?.headers.get("etag") ?? "" } });
    expect(again?.status).toBe(304);
    expect(await again?.text()).toBe("");
  });

  it.each([
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=8-", 206, "89", "bytes 8-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=0-99", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=10-", 416, "", "bytes */10"],
    ["bytes=0-1,4-5", 200, "0123456789", null],
    ["lines=1", 200, "0123456789", null],
  ])("answers the range %s", async (range, status, text, contentRange) => {
    const response = get("/sw.js", { headers: { range } });
    expect(response?.status).toBe(status);
    expect(await response?.text()).toBe(text);
    expect(response?.headers.get("content-range")).toBe(contentRange);
  });

  it("knows its own files only, and no other way to ask for them", async () => {
    for (const url of ["/secret", "/../secret", "/%2e%2e/secret", "/assets", "/v1/models", "/dist/index.html"])
      expect(get(url)).toBeUndefined();
    expect(get("/", { method: "POST" })).toBeUndefined();
    const head = get("/", { method: "HEAD" });
    expect(head?.headers.get("content-length")).toBe("15");
    expect(await head?.text()).toBe("");
    expect(await openPage(path.join(folder, "none"))).toBeUndefined();
    expect(await openPage(path.join(folder, "dist", "assets"))).toBeUndefined();
  });
});
