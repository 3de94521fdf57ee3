/** The download of the page's model over two tabs: one is closed in the middle of it, the other goes on; what was there is not fetched again. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { type BrowserContext, type Page, expect, test } from "playwright/test";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";
import type { StaticServer } from "./staticServer.ts";

test.describe.configure({ mode: "serial" });

const SHARD = "model-00002-of-00003.safetensors";
const OPEN = { timeout: 120_000 };

let site: ChatSite;
let folder: string;
let server: StaticServer;
let context: BrowserContext;
let page: Page;
const problems: (readonly string[])[] = [];

test.beforeAll(async ({ browser }) => {
  site = await serveChat();
  ({ folder, server } = site);
  context = await browser.newContext();
  page = await openPage(context);
});

test.afterAll(async () => {
  await context.close();
  await site.close();
});

async function openPage(visitor: BrowserContext): Promise<Page> {
  const opened = await visitor.newPage();
  problems.push(problemsOf(opened));
  return opened;
}

const message = (of = page) => of.getByLabel("Message", { exact: true });
const button = (name: string, of = page) => of.getByRole("button", { name, exact: true });
const modelBytes = () => [...server.sent].reduce((sum, [name, bytes]) => sum + (name.endsWith(".safetensors") ? bytes : 0), 0);
const sentOfShard = () => server.sent.get(`/model/${SHARD}`) ?? 0;

test("before any download it says whether the model fits, and how much comes", async () => {
  await page.goto(server.url);
  await expect(button("Download and start")).toBeVisible(OPEN);
  await expect(page.locator(".facts")).toContainText("MB");
  expect(modelBytes()).toBeLessThan(1_000_000);
  await expectAccessible(page);
});

test("a download is paused, goes on, breaks with a choice, and is taken over by another tab when this one closes: no byte comes twice", async () => {
  const other = await openPage(context);
  await other.goto(server.url);
  server.cut = { path: SHARD, after: 3_000_000, hangs: true };
  await button("Download and start", other).click(OPEN);
  await expect.poll(sentOfShard, { timeout: 60_000 }).toBeGreaterThanOrEqual(3_000_000);
  await button("Pause", other).click();
  server.cut = { path: SHARD, after: 4_000_000, hangs: true };
  await button("Resume", other).click();
  await expect.poll(sentOfShard, { timeout: 60_000 }).toBeGreaterThanOrEqual(4_000_000);

  // Meanwhile this tab waits: it sees what has come, and goes on when the other is closed.
  await button("Download and start").click();
  await expect(page.getByText("Another tab is downloading this model")).toBeVisible(OPEN);
  await expect(page.getByText(/^1\d\.\d MB of 31\.\d MB/)).toBeVisible();
  server.cut = { path: SHARD, after: 6_000_000 };
  await other.close();
  await expect(page.getByRole("heading", { name: "The download failed" })).toBeVisible({ timeout: 60_000 });
  const { [SHARD]: whole } = JSON.parse(await readFile(path.join(folder, "model", "manifest.json"), "utf8")) as Record<
    string,
    { bytes: number }
  >;
  server.cut = undefined;
  server.sent.clear();
  await button("Go on").click();
  await expect(message()).toBeVisible(OPEN);
  expect([...server.sent.keys()].filter((name) => name.endsWith("00001-of-00003.safetensors"))).toEqual([]);
  expect(sentOfShard()).toBeGreaterThanOrEqual((whole?.bytes ?? 0) - 6_000_000);
  expect(sentOfShard()).toBeLessThan((whole?.bytes ?? 0) - 5_000_000);
});

test("no page made an error or broke the security policy", () => {
  expect(problems.flat()).toEqual([]);
});
