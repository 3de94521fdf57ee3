/** The README's example of `@shoal/web`, as another site would use it; and what else that site can ask of the same engine. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Engine } from "@shoal/web";
import { type Page, expect, test } from "playwright/test";
import { type PageServer, servePages } from "./serve.ts";

test.describe.configure({ mode: "serial" });

let server: PageServer;
let page: Page;

test.beforeAll(async ({ browser }) => {
  server = await servePages({ publicDir: fileURLToPath(new URL("../packages/tiny-model/", import.meta.url)) });
  page = await browser.newPage();
});

test.afterAll(async () => {
  await page.close();
  await server.close();
});

declare global {
  interface Window {
    engine: Engine;
  }
}

test("the README's five lines answer", async () => {
  const read = (path: string): Promise<string> => readFile(new URL(path, import.meta.url), "utf8");
  const [, example] = /```ts\n([^]*?)```/.exec(await read("../packages/web/README.md")) ?? [];
  expect(example).toBe(await read("pages/library.ts"));
  await page.route("**/library.ts", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${await response.text()}\nglobalThis.engine = engine;` });
  });
  await page.goto(`${server.url}library.html`);
  await expect(page.locator("body")).toHaveText("The capital of France is Paris.", { timeout: 240_000 });
});

test("an answer follows a schema or a pattern; one that cannot be followed is refused by its field, and answers go on", async () => {
  const ask = (fields: Readonly<Record<string, unknown>>): Promise<string> =>
    page.evaluate(async (more) => {
      const messages = [{ role: "user", content: "Describe a fox." }] as const;
      const request = { messages, temperature: 0, max_tokens: 100, ...more };
      try {
        const { choices } = await window.engine.chat.completions.create(request);
        return choices[0]?.message.content ?? "";
      } catch (error) {
        return String(error);
      }
    }, fields);
  const legs = { type: "integer", minimum: 0, maximum: 9 };
  const schema = {
    type: "object",
    properties: { kind: { enum: ["fox", "whale"] }, legs },
    required: ["kind", "legs"],
    additionalProperties: false,
  };
  const answer = await ask({ response_format: { type: "json_schema", json_schema: { name: "animal", schema } } });
  expect(JSON.stringify(JSON.parse(answer))).toMatch(/^\{"kind":"(?:fox|whale)","legs":\d\}$/);
  expect(await ask({ structured_outputs: { regex: "(?:red|grey) fox, [0-9]{3} years" } })).toMatch(/^(?:red|grey) fox, \d{3} years$/);
  expect(await ask({ structured_outputs: { regex: "(" } })).toContain("structured_outputs.regex");
});
