/** The README's example of `@shoal/web`, as another site would use it. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "playwright/test";
import { servePages } from "./serve.ts";

test("the README's five lines answer", async ({ page }) => {
  const read = (path: string): Promise<string> => readFile(new URL(path, import.meta.url), "utf8");
  const [, example] = /```ts\n([^]*?)```/.exec(await read("../packages/web/README.md")) ?? [];
  expect(example).toBe(await read("pages/library.ts"));
  const server = await servePages({ publicDir: fileURLToPath(new URL("../packages/tiny-model/", import.meta.url)) });
  try {
    await page.goto(`${server.url}library.html`);
    await expect(page.locator("body")).toHaveText("The capital of France is Paris.", { timeout: 240_000 });
  } finally {
    await server.close();
  }
});
