/** The chat page as it is built, from the first visit on. The tests follow one visitor, in order. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { type BrowserContext, type Page, expect, test } from "playwright/test";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";
import type { StaticServer } from "./staticServer.ts";

test.describe.configure({ mode: "serial" });

const QUESTION = "What is the capital of France?";
/** The greedy answer, the one that `shoal chat` gives and `shoal bench` checks. */
const ANSWER = "The capital of France is Paris.";
const SHARD = "model-00002-of-00003.safetensors";

let site: ChatSite;
let server: StaticServer;
let context: BrowserContext;
let page: Page;
let problems: readonly string[];

test.beforeAll(async ({ browser }) => {
  site = await serveChat();
  ({ server } = site);
  context = await browser.newContext();
  page = await context.newPage();
  problems = problemsOf(page);
});

test.afterAll(async () => {
  await context.close();
  await site.close();
});

const message = () => page.getByLabel("Message", { exact: true });
const answers = () => page.locator(".message.assistant .markdown");
const modelBytes = () => [...server.sent].reduce((sum, [name, bytes]) => sum + (name.endsWith(".safetensors") ? bytes : 0), 0);

async function ready(): Promise<void> {
  await expect(message()).toBeVisible({ timeout: 120_000 });
}

test("before any download it says whether the model fits, and how much comes", async () => {
  await page.goto(server.url);
  await expect(page.getByRole("button", { name: "Download and start" })).toBeVisible({ timeout: 120_000 });
  await expect(page.locator(".facts")).toContainText("MB");
  expect(modelBytes()).toBeLessThan(1_000_000);
  await expectAccessible(page);
});

test("a download can be paused; a broken one fails with a choice, and goes on from where it was", async () => {
  server.cut = { path: SHARD, after: 3_000_000, hangs: true };
  await page.getByRole("button", { name: "Download and start" }).click();
  await expect.poll(() => server.sent.get(`/model/${SHARD}`) ?? 0, { timeout: 60_000 }).toBeGreaterThanOrEqual(3_000_000);
  await page.getByRole("button", { name: "Pause" }).click();
  server.cut = { path: SHARD, after: 6_000_000 };
  await page.getByRole("button", { name: "Resume" }).click();
  await expect(page.getByRole("heading", { name: "The download failed" })).toBeVisible({ timeout: 60_000 });
  server.cut = undefined;
  server.sent.clear();
  await page.getByRole("button", { name: "Go on" }).click();
  await ready();
  const files = JSON.parse(await readFile(path.join(site.folder, "model", "manifest.json"), "utf8")) as Record<string, { bytes: number }>;
  const whole = files[SHARD]?.bytes ?? 0;
  expect(whole).toBeGreaterThan(6_000_000);
  // What had arrived when the connection broke is not sent again.
  const sent = server.sent.get(`/model/${SHARD}`) ?? 0;
  expect(sent).toBeGreaterThanOrEqual(whole - 6_000_000);
  expect(sent).toBeLessThan(whole - 5_000_000);
});

test("the answer is the one that the model gives elsewhere", async () => {
  await message().fill(QUESTION);
  await message().press("Enter");
  await expect(answers().last()).toHaveText(ANSWER, { timeout: 120_000 });
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
  await expect(page.locator(".stats")).toContainText("tokens/s");
  await expectAccessible(page);
});

test("regenerate gives another answer, and an edited question has a branch of its own", async () => {
  await page.getByRole("button", { name: "Regenerate" }).click();
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible({ timeout: 120_000 });
  await expect(answers()).toHaveText([ANSWER]);
  await page.getByRole("button", { name: "Edit" }).click();
  const edit = page.getByLabel("Your message", { exact: true });
  await expect(edit).toHaveValue(QUESTION);
  await edit.fill("What is the capital of Peru?");
  await edit.press("Enter");
  await expect(answers().last()).toContainText("Lima", { timeout: 120_000 });
  await expect(page.locator(".message.user")).toHaveCount(1);
});

test("stop keeps what was said", async () => {
  await page.getByRole("button", { name: "New conversation" }).click();
  await message().fill("Tell me a story about a brave fox and a lantern.");
  await message().press("Enter");
  await expect(answers().last()).not.toBeEmpty({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
  await expect(answers().last()).not.toBeEmpty();
});

test("a second visit downloads no weights and has the conversations", async () => {
  server.sent.clear();
  await page.reload();
  await ready();
  expect(modelBytes()).toBe(0);
  await page.getByRole("button", { name: "What is the capital of France?" }).first().click();
  await expect(answers().last()).toContainText("Lima");
});

test("a corrupt file is fetched again", async () => {
  await page.evaluate(async (name) => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
    for await (const directory of models.values()) {
      const file = await (directory as FileSystemDirectoryHandle).getFileHandle(name);
      const writable = await file.createWritable({ keepExistingData: true });
      await writable.write({ type: "write", position: 5_000_000, data: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]) });
      await writable.close();
    }
  }, SHARD);
  server.sent.clear();
  await page.reload();
  await ready();
  expect([...server.sent.keys()].filter((name) => name.endsWith(".safetensors"))).toEqual([`/model/${SHARD}`]);
});

test("it works without network", async () => {
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
  await server.stop();
  await page.reload();
  await ready();
  await page.getByRole("button", { name: "New conversation" }).click();
  await message().fill(QUESTION);
  await message().press("Enter");
  await expect(answers().last()).toHaveText(ANSWER, { timeout: 120_000 });
  await server.start();
});

test("360 pixels are enough, light and dark", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(width).toBeLessThanOrEqual(360);
    await expectAccessible(page);
  }
  await page.getByRole("button", { name: "Menu" }).click();
  await expect(page.getByRole("button", { name: "New conversation" })).toBeVisible();
  await page.getByRole("button", { name: "New conversation" }).click();
  await expect(page.getByRole("heading", { name: "What would you like to know?" })).toBeVisible();
});

test("no page made an error or broke the security policy", () => {
  expect(problems).toEqual([]);
});

test("without WebGPU the page says so", async ({ browser }) => {
  const bare = await browser.newContext();
  const other = await bare.newPage();
  // Workers read the property of their own scope, which init scripts do not reach: the worker's script gets it in front.
  await other.route("**/assets/worker-*.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `Object.defineProperty(navigator, "gpu", { value: undefined });${await response.text()}` });
  });
  await other.goto(server.url);
  await expect(other.getByRole("heading", { name: "No WebGPU here" })).toBeVisible({ timeout: 60_000 });
  expect(await other.getByRole("button", { name: "Download and start" }).count()).toBe(0);
  await bare.close();
});

test("an answer goes on where it was when the device is lost", async ({ browser }) => {
  const fragile = await browser.newContext();
  const other = await fragile.newPage();
  await other.route("**/assets/worker-*.js", async (route) => {
    const response = await route.fetch();
    const losing = `{
      const request = GPUAdapter.prototype.requestDevice;
      let device;
      const opened = new BroadcastChannel("opened");
      GPUAdapter.prototype.requestDevice = async function (...given) {
        opened.postMessage(null);
        return (device = await request.apply(this, given));
      };
      new BroadcastChannel("lose").onmessage = () => device.destroy();
    }`;
    await route.fulfill({ response, body: `${losing}${await response.text()}` });
  });
  await other.goto(server.url);
  await other.getByRole("button", { name: "Download and start" }).click({ timeout: 120_000 });
  await other.getByLabel("Message", { exact: true }).fill("Tell me a story about a brave fox and a lantern.");
  await other.keyboard.press("Enter");
  const answer = other.locator(".message.assistant .markdown").last();
  await expect(answer).not.toBeEmpty({ timeout: 120_000 });
  await other.evaluate(() => {
    new BroadcastChannel("opened").addEventListener("message", () => (document.documentElement.dataset["reopened"] = "yes"));
    // A channel's messages have no target origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    new BroadcastChannel("lose").postMessage(null);
  });
  await expect(other.getByRole("button", { name: "Stop" })).toBeVisible();
  await expect(other.getByRole("button", { name: "Send" })).toBeVisible({ timeout: 120_000 });
  await expect(other.locator(".notice")).toHaveCount(0);
  await expect(other.locator("html[data-reopened]")).toHaveCount(1);
  const through = await answer.textContent();
  await other.getByRole("button", { name: "Regenerate" }).click();
  await expect(other.getByRole("button", { name: "Send" })).toBeVisible({ timeout: 120_000 });
  expect(through?.length).toBeGreaterThan(200);
  expect(await answer.textContent()).toBe(through);
  await fragile.close();
});
