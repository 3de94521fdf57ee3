/** Every kernel's contract suite in Chromium, in a dedicated worker, as the app runs them; on a software adapter a share of its cases. */
import { contracts } from "@shoal/kernels/contracts";
import { type Page, expect, test } from "playwright/test";
import { type PageServer, servePages } from "./serve.ts";

// One page for all: opening a device again for every operation would compile its self-tests again.
test.describe.configure({ mode: "default" });

let server: PageServer;
let page: Page;

test.beforeAll(async ({ browser }) => {
  server = await servePages();
  page = await browser.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") console.error(message.text());
  });
  page.on("pageerror", (error) => console.error(error));
  await page.goto(`${server.url}kernels.html`);
  await page.waitForFunction(() => "runSuite" in globalThis);
});

test.afterAll(async () => {
  await page.close();
  await server.close();
});

for (const op of Object.keys(contracts)) {
  test(`${op} keeps its contract in Chromium`, async () => {
    const { adapter, every, cases } = await page.evaluate((name) => window.runSuite(name), op);
    test.info().annotations.push({ type: "adapter", description: adapter });
    const failed = cases.filter(({ error }) => error !== undefined).map(({ name, error }) => `${name}: ${error}`);
    expect(failed).toEqual([]);
    expect(cases.length, `cases run on ${adapter}`).toBe(Math.ceil((contracts[op]?.length ?? 0) / every));
    expect(cases.length).toBeGreaterThan(0);
  });
}
