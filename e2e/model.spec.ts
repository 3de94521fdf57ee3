/** The chat page as it is built, from the first visit on. The tests follow one visitor, in order. */
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import type { AxeResults } from "axe-core";
import { type BrowserContext, type Page, expect, test } from "playwright/test";
import { build } from "vite";
import { StaticServer } from "./staticServer.ts";

test.describe.configure({ mode: "serial" });

const QUESTION = "What is the capital of France?";
/** The greedy answer, the one that `shoal chat` gives and `shoal bench` checks. */
const ANSWER = "The capital of France is Paris.";
const SHARD = "model-00002-of-00003.safetensors";
const MAX_PAGE_BYTES = 150_000;
const HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>[x](javascript:window.hacked=3) **bold**';

let folder: string;
let server: StaticServer;
let context: BrowserContext;
let page: Page;
const problems: string[] = [];

test.beforeAll(async ({ browser }) => {
  folder = await mkdtemp(path.join(tmpdir(), "shoal-page-"));
  const configFile = fileURLToPath(new URL("../apps/chat/vite.config.ts", import.meta.url));
  await build({ configFile, logLevel: "error", build: { outDir: folder, emptyOutDir: true } });
  server = new StaticServer(folder);
  await server.start();
  context = await browser.newContext();
  page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) problems.push(message.text());
  });
});

test.afterAll(async () => {
  await context.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const message = () => page.getByLabel("Message", { exact: true });
const answers = () => page.locator(".message.assistant .markdown");
const modelBytes = () => [...server.sent].reduce((sum, [name, bytes]) => sum + (name.endsWith(".safetensors") ? bytes : 0), 0);

async function ready(): Promise<void> {
  await expect(message()).toBeVisible({ timeout: 120_000 });
}

async function expectAccessible(): Promise<void> {
  await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core"), "utf8"));
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
}

test("the page without the engine is small", async () => {
  let bytes = 0;
  for (const name of ["../index.html", ...(await readdir(path.join(folder, "assets")))])
    if (!name.startsWith("worker-")) bytes += gzipSync(await readFile(path.join(folder, "assets", name))).length;
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(MAX_PAGE_BYTES);
});

test("before any download it says whether the model fits, and how much comes", async () => {
  await page.goto(server.url);
  await expect(page.getByRole("button", { name: "Download and start" })).toBeVisible({ timeout: 120_000 });
  await expect(page.locator(".facts")).toContainText("MB");
  expect(modelBytes()).toBeLessThan(1_000_000);
  await expectAccessible();
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
  const files = JSON.parse(await readFile(path.join(folder, "model", "manifest.json"), "utf8")) as Record<string, { bytes: number }>;
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
  await page.getByText("Speed").click();
  await expect(page.locator(".stats")).toContainText("tokens/s");
  await expectAccessible();
});

test("regenerate gives another answer, and edit replaces a question with all that followed", async () => {
  await page.getByRole("button", { name: "Regenerate" }).click();
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible({ timeout: 120_000 });
  await expect(answers()).toHaveText([ANSWER]);
  await page.getByRole("button", { name: "Edit" }).click();
  await expect(message()).toHaveValue(QUESTION);
  await message().fill("What is the capital of Peru?");
  await message().press("Enter");
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

test("hostile text and a hostile import run no script; a broken import changes nothing", async () => {
  const count = await page.locator(".sidebar li").count();
  const turns = [
    { role: "user", content: HOSTILE },
    { role: "assistant", content: `<think>${HOSTILE}</think>${HOSTILE}` },
  ];
  const file = (text: string) => ({ name: "conversations.json", mimeType: "application/json", buffer: Buffer.from(text) });
  const picker = page.locator('input[type="file"]');
  await picker.setInputFiles(file('{"format":"shoal-conversations","version":1,"conversations":[{"title":7}]}'));
  await expect(page.locator(".notice")).toContainText("conversations[0]");
  await expect(page.locator(".sidebar li")).toHaveCount(count);
  const conversations = [{ title: "<b>Hostile</b>", updatedAt: 1, turns }];
  await picker.setInputFiles(file(JSON.stringify({ format: "shoal-conversations", version: 1, conversations })));
  await expect(page.locator(".sidebar li")).toHaveCount(count + 1);
  await page.getByRole("button", { name: "<b>Hostile</b>", exact: true }).click();
  await expect(answers().last().locator("strong")).toHaveText("bold");
  await expect(page.locator(".messages img, .messages script, .messages a[href]")).toHaveCount(0);
  await expect(answers().last()).toContainText("<script>");
  expect(await page.evaluate(() => "hacked" in globalThis)).toBe(false);
  await page.getByLabel("Search conversations").fill("hostile");
  await expect(page.locator(".sidebar li")).toHaveCount(1);
  await page.getByLabel("Search conversations").fill("");
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
    await expectAccessible();
  }
  await page.getByRole("button", { name: "Menu" }).click();
  await expect(page.getByRole("button", { name: "New conversation" })).toBeVisible();
  await page.getByRole("button", { name: "New conversation" }).click();
  await expect(page.getByRole("heading", { name: "Ask something" })).toBeVisible();
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
