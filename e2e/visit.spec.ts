/** The chat page and its model, as built: from the first visit on, offline, in two tabs, with other models and with a server. Most tests follow one visitor, in order. */
import { link, mkdir, readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { type BrowserContext, type Page, expect, test } from "playwright/test";
import { startChatServer } from "./chatServer.ts";
import { answerAsHub } from "./hub.ts";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";
import { expectFree, watchAnswer } from "./mainThread.ts";
import type { StaticServer } from "./staticServer.ts";

test.describe.configure({ mode: "serial" });

const QUESTION = "What is the capital of France?";
/** The greedy answer, the one that `shoal chat` gives and `shoal bench` checks. */
const ANSWER = "The capital of France is Paris.";
const STORY = "Tell me a story about a brave fox and a lantern.";
const SHARD = "model-00002-of-00003.safetensors";
/** A software adapter shared with other work compiles a model's kernels in up to two minutes. */
const SLOW = { timeout: 280_000 };
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
  // The same model where nobody wrote a manifest.
  await mkdir(path.join(folder, "bare"));
  for (const name of await readdir(path.join(folder, "model")))
    if (name !== "manifest.json") await link(path.join(folder, "model", name), path.join(folder, "bare", name));
  // And two that are no model.
  for (const [broken, without] of [
    ["no-config", "config.json"],
    ["no-shard", SHARD],
  ] as const) {
    await mkdir(path.join(folder, broken));
    for (const name of await readdir(path.join(folder, "bare")))
      if (name !== without) await link(path.join(folder, "bare", name), path.join(folder, broken, name));
  }
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

/** What the engine's worker runs first. Service workers answer later visits, so this counts for a context's first alone. */
async function beforeWorker(opened: Page, script: string): Promise<void> {
  await opened.route("**/assets/worker-*.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${script};${await response.text()}` });
  });
}

const message = (of = page) => of.getByLabel("Message", { exact: true });
const answers = (of = page) => of.locator(".message.assistant .markdown");
const button = (name: string, of = page) => of.getByRole("button", { name, exact: true });
const modelBytes = () => [...server.sent].reduce((sum, [name, bytes]) => sum + (name.endsWith(".safetensors") ? bytes : 0), 0);
const sentOfShard = () => server.sent.get(`/model/${SHARD}`) ?? 0;

async function ask(text: string, of = page): Promise<void> {
  await message(of).fill(text);
  await message(of).press("Enter");
}

test("before any download it says whether the model fits, and how much comes", async () => {
  // A device that can be lost, for later.
  await beforeWorker(
    page,
    `{
      const request = GPUAdapter.prototype.requestDevice;
      let device;
      const opened = new BroadcastChannel("opened");
      GPUAdapter.prototype.requestDevice = async function (...given) {
        opened.postMessage(null);
        return (device = await request.apply(this, given));
      };
      new BroadcastChannel("lose").onmessage = () => device.destroy();
    }`,
  );
  await page.goto(server.url);
  await expect(button("Download and start")).toBeVisible(OPEN);
  await expect(page.locator(".facts")).toContainText("MB");
  await expect(page.getByText("the model fits this device")).toBeVisible();
  expect(modelBytes()).toBeLessThan(1_000_000);
  await expectAccessible(page);
});

test("a download is paused, goes on, also after a reload, breaks with a choice, and is taken over by another tab when this one closes: no byte comes twice", async () => {
  const other = await openPage(context);
  await other.goto(server.url);
  server.cut = { path: SHARD, after: 3_000_000, hangs: true };
  await button("Download and start", other).click(OPEN);
  await expect.poll(sentOfShard).toBeGreaterThanOrEqual(3_000_000);
  // A test's browser makes no promises unless it is told to.
  await expect(other.getByText("This browser does not promise to keep the model")).toBeVisible();
  await button("Pause", other).click();
  server.cut = { path: SHARD, after: 4_000_000, hangs: true };
  await button("Resume", other).click();
  await expect.poll(sentOfShard).toBeGreaterThanOrEqual(4_000_000);
  server.cut = { path: SHARD, after: 5_000_000, hangs: true };
  await other.reload();
  await expect(other.locator(".facts")).toContainText("are here already", OPEN);
  await button("Download and start", other).click();
  await expect.poll(sentOfShard).toBeGreaterThanOrEqual(5_000_000);

  // Meanwhile this tab waits: it sees what has come, and goes on when the other is closed.
  await button("Download and start").click();
  await expect(page.getByText("Another tab is downloading this model")).toBeVisible(OPEN);
  await expect(page.getByText(/^1\d\.\d MB of 31\.\d MB/)).toBeVisible();
  server.cut = { path: SHARD, after: 6_000_000 };
  await other.close();
  await expect(page.getByRole("heading", { name: "The download failed" })).toBeVisible(OPEN);
  await expectAccessible(page);
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

test("the answer is the one that the model gives elsewhere, and the panel shows how it comes to be", async () => {
  await button("See the model work").click();
  await expect(page.getByText("Ask something: each answer shows which of 32 experts")).toBeVisible();
  await ask(QUESTION);
  await expect(answers().last()).toHaveText(ANSWER, SLOW);
  await expect(button("Send")).toBeVisible();
  await expect(page.getByRole("img", { name: "Experts chosen lately in 5 layers of 32 experts" })).toBeVisible();
  const inspector = page.locator("#inspector");
  await expect(inspector.getByRole("row", { name: /weights/ })).toContainText("MB");
  await expect(inspector).toContainText(/MTP module (?:is not used: on a processor|drafts tokens where that is faster)/);
  await expect(inspector.locator(".figures div", { hasText: "ms to first token" }).locator("dd")).toHaveText(/^\d+$/);
  // Token by token, by pointing or by keys, with what else was likely.
  await inspector.getByRole("slider", { name: "Token" }).press("ArrowLeft");
  await expect(inspector.getByRole("slider", { name: "Token" })).toHaveAttribute("aria-valuetext", /\d %$/);
  await expect(inspector.locator(".alternatives tr")).toHaveCount(5);
  await expect(inspector.locator(".alternatives tr").first()).toHaveText(/Paris.* \d+\.\d %/);
  await inspector.locator(".token").first().hover();
  await expect(inspector.getByRole("slider", { name: "Token" })).toHaveAttribute("aria-valuenow", "1");
  await expect(inspector.locator(".alternatives tr").first()).toHaveText(/The.* \d+\.\d %/);
  const timing = inspector.getByRole("button", { name: "Measure a step" });
  if (await timing.isVisible()) {
    await timing.click();
    await expect(inspector.getByText("ms for one token")).toBeVisible(SLOW);
  } else await expect(inspector).toContainText("no timestamp queries");
  await expectAccessible(page);
});

test("regenerate gives another answer, an edited question a branch, and a question that is sent meanwhile waits", async () => {
  await button("Regenerate").click();
  // Which is told once it is there.
  await expect(page.locator(".siblings")).toHaveText("2/2", SLOW);
  await expect(answers()).toHaveText([ANSWER]);
  await button("Edit").click();
  const edit = page.getByLabel("Your message", { exact: true });
  await expect(edit).toHaveValue(QUESTION);
  await edit.fill("What is the capital of Peru?");
  await edit.press("Enter");
  await expect(answers().last()).toContainText("Lima", SLOW);
  await expect(page.locator(".message.user")).toHaveCount(1);
  // Which is perhaps not at its end.
  await button("New conversation").click();
  await ask(STORY);
  await expect(answers().last()).not.toBeEmpty(SLOW);
});

test("an answer goes on where it was when the device is lost", async () => {
  await page.evaluate(() => {
    new BroadcastChannel("opened").addEventListener("message", () => (document.documentElement.dataset["reopened"] = "yes"));
    // A channel's messages have no target origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    new BroadcastChannel("lose").postMessage(null);
  });
  await expect(button("Stop")).toBeVisible();
  await expect(button("Send")).toBeVisible(SLOW);
  await expect(page.locator(".notice")).toHaveCount(0);
  await expect(page.locator("html[data-reopened]")).toHaveCount(1);
  const through = await answers().last().textContent();
  await page.getByRole("button", { name: "Regenerate" }).last().click();
  await expect(page.locator(".siblings")).toHaveText("2/2", SLOW);
  expect(through?.length).toBeGreaterThan(200);
  expect(await answers().last().textContent()).toBe(through);
  // The next prompt of the chat begins with all of that, which need not be computed again.
  await ask("And then?");
  await expect(page.locator("#inspector")).toContainText(/[1-9]\d* of \d+ tokens of prompts were found in the cache/, SLOW);
  // Which stops it, unless it is at its end.
  await page.keyboard.press("Escape");
});

test("the page is not blocked while the model writes, with the panel open", async ({ browser }) => {
  await button("New conversation").click();
  await expectFree(() => watchAnswer(browser, page, QUESTION));
  await button("See the model work").click();
});

test("later visits need no network, and two tabs answer at once", async () => {
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
  server.sent.clear();
  await server.stop();
  const other = await openPage(context);
  await other.goto(server.url);
  await expect(message(other)).toBeVisible(OPEN);
  await button("New conversation", other).click();
  await ask(QUESTION, other);
  await expect(answers(other).last()).toHaveText(ANSWER, SLOW);
  // By now the kernels of both are compiled.
  const tabs = [page, other];
  for (const tab of tabs) {
    await button("New conversation", tab).click();
    await ask(STORY, tab);
  }
  for (const tab of tabs) await expect(tab.locator(".stats")).toBeVisible(SLOW);
  const [one = "", two] = await Promise.all(tabs.map((tab) => answers(tab).textContent()));
  expect(one?.length).toBeGreaterThan(200);
  expect(two).toBe(one);
  await other.close();
  await server.start();
  expect(modelBytes()).toBe(0);
});

test("with room for a quarter of its experts the model answers as with all, reads the others from this browser's storage, and the panel shows how that goes", async () => {
  server.sent.clear();
  await button("See the model work").click();
  const inspector = page.locator("#inspector");
  await inspector.getByLabel("On the GPU").selectOption("0.25");
  await expect(inspector.locator("[data-paging]")).toContainText("are read when a token needs them", OPEN);
  await button("New conversation").click();
  await ask(QUESTION);
  await expect(answers().last()).toHaveText(ANSWER, SLOW);
  await expect(inspector.locator("[data-paging]")).toHaveText(
    /So far \d+ % of those needed were there, [1-9]\d* were read \(.* MB\), and answers waited \d+\.\d s for them/,
  );
  await expectAccessible(page);
  await button("See the model work").click();
  expect(modelBytes()).toBe(0);
});

test("models are fetched from an address without a manifest, listed with their size, used and deleted", async () => {
  await button("Models").click();
  const list = page.getByRole("region", { name: "On this device" });
  await expect(list.getByRole("listitem")).toHaveText([/The model of this page\s*31\.\d MB/]);
  await page.getByLabel("Address or repository").fill("nowhere");
  await button("Check").click();
  await expect(page.getByRole("alert")).toContainText("expected an address, or 'organization/name'");
  await page.getByLabel("Address or repository").fill(`${server.url}bare`);
  await button("Check").click();
  await button("Download and start").click(OPEN);
  await expect(button("Free the GPU")).toBeVisible(OPEN);
  await expect(list.getByRole("listitem")).toHaveCount(2);
  await expectAccessible(page);
  // Its files are known by the digests that they had when they came.
  server.sent.clear();
  await page.reload();
  await expect(message()).toBeVisible(OPEN);
  expect(modelBytes()).toBe(0);
  await button("Models").click();
  await list.getByRole("listitem").filter({ hasText: "The model of this page" }).getByRole("button", { name: "Use" }).click();
  await button("Models").click();
  await expect(button("Free the GPU")).toBeVisible(OPEN);
  page.once("dialog", (dialog) => void dialog.accept());
  await button("Delete bare").click();
  await expect(list.getByRole("listitem")).toHaveCount(1);
});

test("the browser is asked to keep what is there, and whether it promises is told", async () => {
  await expect(page.getByText("The browser may drop it when the disk fills up.")).toBeVisible();
  await button("Ask it not to").click();
  await expect(page.getByText("It made no promise.")).toBeVisible();
  const devtools = await context.newCDPSession(page);
  const { browserContextId } = (await devtools.send("Target.getTargetInfo")).targetInfo;
  const origin = new URL(server.url).origin;
  await devtools.send("Browser.grantPermissions", { origin, permissions: ["durableStorage"], browserContextId: browserContextId ?? "" });
  // What was asked before may still be looked at, and then tells the promise already.
  await expect(async () => {
    if (await button("Ask it not to").isVisible()) await button("Ask it not to").click({ timeout: 2000 });
    await expect(page.getByText("The browser keeps it until you delete it.")).toBeVisible({ timeout: 2000 });
  }).toPass({ timeout: 60_000 });
  expect(await page.evaluate(() => navigator.storage.persisted())).toBe(true);
});

test("a folder of this machine is a model too, and nothing of it is kept; one that is none leads to a choice", async () => {
  const inUse = page.getByRole("region", { name: "In use" });
  const field = page.getByLabel("Folder of a model");
  await field.setInputFiles(path.join(folder, "no-config"));
  await expect(page.getByRole("alert")).toContainText("Cannot use 'no-config' as a model: it has no 'config.json'");
  await expect(inUse).toContainText("The model of this page on");
  await field.setInputFiles(path.join(folder, "no-shard"));
  await expect(inUse.getByRole("heading", { name: "This model cannot be used" })).toBeVisible(OPEN);
  await inUse.getByText("Details", { exact: true }).click();
  await expect(inUse).toContainText(SHARD);
  await expect(button("Use a server")).toBeEnabled();
  await expectAccessible(page);
  await field.setInputFiles(path.join(folder, "bare"));
  await expect(inUse).toContainText("bare on", OPEN);
  await expect(page.getByRole("region", { name: "On this device" }).getByRole("listitem")).toHaveCount(1);
});

test("where the browser has a dialog for folders, that gives the folder", async () => {
  // A person would choose in the dialog; here it is the folder of what is kept.
  await page.evaluate(async () => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
    const chosen: FileSystemHandle[] = [];
    for await (const directory of models.values()) chosen.push(directory);
    Object.assign(globalThis, { showDirectoryPicker: () => Promise.resolve(chosen[0]) });
  });
  await button("Choose a folder").click();
  await expect(page.getByRole("region", { name: "In use" })).toContainText("%2Fmodel%2F on", OPEN);
});

test("a model of a folder answers as any", async () => {
  test.skip(process.env["SHOAL_LONG"] !== "1", "SHOAL_LONG=1 only: kernels are compiled once more");
  await button("New conversation").click();
  await ask(QUESTION);
  await expect(answers().last()).toHaveText(ANSWER, SLOW);
});

test("a server answers instead, and the GPU is free", async () => {
  const chat = await startChatServer({ key: "secret", model: "far-away", pieces: ["I am ", "far away."] });
  await page.reload();
  await expect(message()).toBeVisible(OPEN);
  await button("Settings").click();
  await page.getByLabel("An OpenAI-compatible server").check();
  await page.getByLabel("Address", { exact: true }).fill(chat.url);
  await button("Connect").click();
  await expect(page.getByText("wrong key")).toBeVisible();
  await page.getByLabel("Key, if it wants one").fill("secret");
  await button("Connect").click();
  await expect(page.getByText("Connected: far-away answers.")).toBeVisible();
  await page.keyboard.press("Escape");
  await button("New conversation").click();
  await ask(QUESTION);
  await expect(answers().last()).toHaveText("I am far away.");
  expect(chat.requests.at(-1)).toMatchObject({ model: "far-away", stream: true, messages: [{ role: "user", content: QUESTION }] });
  // As on the next visit, which looks at no GPU.
  await page.reload();
  await expect(page.getByRole("button", { name: /far-away at localhost/ })).toBeVisible();
  await button("Settings").click();
  await page.getByLabel("This device").check();
  await page.keyboard.press("Escape");
  await expect(message()).toBeVisible(OPEN);
  await chat.close();
});

test("a corrupt file is fetched again, and it alone", async () => {
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
  await expect(message()).toBeVisible(OPEN);
  expect([...server.sent.keys()].filter((name) => name.endsWith(".safetensors"))).toEqual([`/model/${SHARD}`]);
});

test("without WebGPU the page says so, and what else can be done", async ({ browser }) => {
  const bare = await browser.newContext();
  const other = await openPage(bare);
  // Workers read the property of their own scope, which init scripts do not reach.
  await beforeWorker(other, `Object.defineProperty(navigator, "gpu", { value: undefined })`);
  await other.goto(server.url);
  await expect(other.getByRole("heading", { name: "No WebGPU here" })).toBeVisible(OPEN);
  expect(await button("Download and start", other).count()).toBe(0);
  await expectAccessible(other);
  await button("Use a server", other).click();
  await expect(other.getByLabel("An OpenAI-compatible server")).toBeVisible();
  await bare.close();
});

test("a repository of a hub is looked at by its API, and one that only some may read says what to do", async ({ browser }) => {
  const visitor = await browser.newContext();
  const other = await openPage(visitor);
  await other.route("https://huggingface.co/**", (route) =>
    answerAsHub(route, path.join(folder, "model", "manifest.json"), `${server.url}bare/`),
  );
  await other.goto(server.url);
  await button("Models", other).click();
  const inUse = other.getByRole("region", { name: "In use" });
  await other.getByLabel("Address or repository").fill("org/name");
  await button("Check", other).click();
  await expect(inUse).toContainText("org/name is downloaded once");
  await expect(inUse.locator(".facts")).toContainText(/Download\s*31\.\d MB/, OPEN);
  await expect(inUse).toContainText("the model fits this device");
  await other.getByLabel("Address or repository").fill("org/gated");
  await button("Check", other).click();
  await expect(inUse.getByRole("heading", { name: "No model that can be used" })).toBeVisible(OPEN);
  await inUse.getByText("Details", { exact: true }).click();
  await expect(inUse).toContainText("agreed to its terms");
  await visitor.close();
});

test("no page made an error or broke the security policy", () => {
  expect(problems.flat()).toEqual([]);
});
