/** The chat half of the page, answered by a fake backend: what is shown, what can be done, what a hostile answer cannot do. */
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { type BrowserContext, type Page, expect, test } from "playwright/test";
import {
  type ChatSite,
  type FakeOptions,
  answerWith,
  expectAccessible,
  heardFrom,
  isKept,
  problemsOf,
  release,
  requestsOf,
  serveChat,
} from "./chatSite.ts";

/** Gzipped, and without the engine's worker: what the page fetches until it is there, and until it has shown an answer. */
const MAX_READING_BYTES = 150_000;
/** Highlighting and formulas besides, each fetched when an answer first has some. */
const MAX_ALL_BYTES = 200_000;
const RICH =
  "# Title\n\nSome **bold** text with $x^2$ and `code`.\n\n```ts\nconst a: number = 1;\n```\n\n| a | b |\n|--|--:|\n| 1 | 2 |\n\n$$\\frac{a}{b}$$\n\n- one\n- two\n";
const HOSTILE = [
  '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>',
  "[x](javascript:window.hacked=3) ![pixel](https://tracker.invalid/pixel.png?secret) **bold**",
  '<iframe srcdoc="<script>parent.hacked=4</script>"></iframe><svg onload="window.hacked=5"><style>*{display:none}</style>',
  '$\\href{javascript:window.hacked=6}{x}$ $$\\htmlData{x=y}{z}$$ [l]: javascript:window.hacked=7 "x"',
  "[t](data:text/html,<script>window.hacked=8</script>) <https://ok.invalid/>",
  "```html\n<script>window.hacked=9</script>\n```",
].join("\n\n");
const BOMB = `${"[".repeat(10_000)}\n\n${"> ".repeat(5000)}\n\n${"$a".repeat(5000)}`;
const CALLS = [
  { tool_calls: [{ index: 0, id: "call-1", type: "function", function: { name: "weather", arguments: '{"city":' } }] },
  { tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] },
];

let site: ChatSite;
let context: BrowserContext;
let page: Page;
let problems: readonly string[];

test.beforeAll(async () => {
  site = await serveChat();
});
test.afterAll(() => site.close());
test.beforeEach(async ({ browser }) => {
  context = await browser.newContext();
  page = await context.newPage();
  problems = problemsOf(page);
});
test.afterEach(async () => {
  expect(problems).toEqual([]);
  await context.close();
});

const field = () => page.getByLabel("Message", { exact: true });
const answers = () => page.locator(".message.assistant .markdown");
const rows = () => page.locator(".conversations li");

async function open(options: FakeOptions = {}): Promise<void> {
  await answerWith(page, options);
  await page.goto(site.server.url);
  await field().waitFor();
}

async function say(text: string): Promise<void> {
  await field().fill(text);
  await field().press("Enter");
}

/** Its words may be there before its end, and until then some things cannot be done. */
async function isAnswered(): Promise<void> {
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
}

async function chooseFile(text: string): Promise<void> {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Import").setInputFiles({ name: "conversations.json", mimeType: "application/json", buffer: Buffer.from(text) });
}

async function textOfDownload(act: () => Promise<void>): Promise<string> {
  const [download] = await Promise.all([page.waitForEvent("download"), act()]);
  return readFile(await download.path(), "utf8");
}

test("the page without the engine is small, and heavy parts wait until they are needed", async () => {
  const sizes = new Map<string, number>();
  for (const name of await readdir(path.join(site.folder, "assets")))
    sizes.set(name, gzipSync(await readFile(path.join(site.folder, "assets", name))).length);
  const html = await readFile(path.join(site.folder, "index.html"));
  const sum = (wanted: (name: string) => boolean): number =>
    [...sizes].filter(([name]) => wanted(name)).reduce((bytes, [, size]) => bytes + size, gzipSync(html).length);
  const first = sum((name) => html.includes(name));
  const reading = sum((name) => html.includes(name) || name.startsWith("text.worker"));
  // The engine's worker, grammars, a second GPU, and what comes with a swarm are fetched by whoever uses them.
  const all = sum((name) => !/^(?:worker|grammars|second|swarm|swarm-worker|SwarmScreen)-/.test(name));
  console.log(
    `gzipped bytes: ${first} at first paint, ${reading} once an answer is shown, ${all} with highlighting, formulas, and all else`,
  );
  expect(first).toBeGreaterThan(0);
  expect(reading).toBeLessThan(MAX_READING_BYTES);
  expect(all).toBeLessThan(MAX_ALL_BYTES);
});

test("the compiler of grammars comes when an engine is asked for one, and runs where the page's policy is in force", async () => {
  const assets = path.join(site.folder, "assets");
  const [engine = ""] = (await readdir(assets)).filter((name) => name.startsWith("worker-"));
  const [grammars = ""] = /grammars-[\w-]+\.js/.exec(await readFile(path.join(assets, engine), "utf8")) ?? [];
  await open();
  expect(await (await page.request.get(`${site.server.url}sw.js`)).text()).not.toContain("grammars-");
  // A vocabulary of the tokens "{", "}" and an end.
  const masks = await page.evaluate(async (name) => {
    const worker = new Worker(`./assets/${name}`, { type: "module" });
    const replies: { readonly mask?: Uint32Array; readonly error?: unknown }[] = [];
    const heard = new Promise<void>((resolve, reject) => {
      worker.addEventListener("message", ({ data }) => replies.push(data as never) === 3 && resolve());
      worker.addEventListener("error", ({ message }) => reject(new Error(message)));
    });
    const vocabulary = { size: 3, tokens: ["{", "}", ""], marks: {}, stopTokenIds: [2] };
    worker.postMessage({ kind: "vocabulary", vocabulary }, []);
    worker.postMessage({ kind: "open", session: 0, grammar: { kind: "json-object" }, ids: [] }, []);
    worker.postMessage({ kind: "accept", session: 0, ids: [0, 1] }, []);
    await heard;
    worker.terminate();
    return replies.map(({ mask, error }) => error ?? [...(mask ?? [])]);
  }, grammars);
  expect(masks).toEqual([[], [0b001], [0b100]]);
});

test("the page can be installed", async () => {
  await open();
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
  const devtools = await context.newCDPSession(page);
  const { errors } = await devtools.send("Page.getAppManifest");
  expect(errors).toEqual([]);
  const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
  // A test's browser keeps nothing.
  expect(installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito")).toEqual([]);
  const manifest = JSON.parse(await readFile(path.join(site.folder, "app.webmanifest"), "utf8")) as {
    readonly icons: readonly { readonly src: string; readonly sizes: string; readonly type: string }[];
  };
  const sizes = await page.evaluate(
    async (icons) => {
      const pixels = icons.map(async ({ src }) => createImageBitmap(await (await fetch(src)).blob()));
      return (await Promise.all(pixels)).map(({ width, height }) => `${width}x${height}`);
    },
    manifest.icons.filter(({ type }) => type === "image/png"),
  );
  expect(sizes).toEqual(["192x192", "512x512", "512x512"]);
});

test("the page is there before the engine is", async () => {
  await page.route("**/assets/worker-*.js", () => {});
  await page.goto(site.server.url);
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  await expect(page.getByRole("button", { name: "New conversation" })).toBeVisible();
});

test("an answer is shown as Markdown: code in colours, formulas, tables; code and answer can be copied", async () => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open({ answers: { Show: RICH.split(/(?<= )/) }, delayMs: 1 });
  await say("Show");
  await expect(answers().locator("strong")).toHaveText("bold");
  await expect(answers().locator("h3")).toHaveText("Title");
  await expect(answers().locator("math")).toHaveCount(2);
  await expect(answers().locator("mfrac")).toHaveCount(1);
  await expect(answers().locator(".hljs-keyword")).toHaveText("const");
  await expect(answers().locator("td")).toHaveText(["1", "2"]);
  await expect(answers().locator("li")).toHaveText(["one", "two"]);
  const copied = await heardFrom(page, ".copy [role=status]");
  await page.getByRole("button", { name: "Copy code" }).click();
  await expect.poll(copied).toEqual(["Copied"]);
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("const a: number = 1;");
  await page.locator(".assistant .actions").getByRole("button", { name: "Copy" }).click();
  await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe(RICH);
  await expectAccessible(page);
});

test("reasoning is open while it goes on and folded after; who opens it finds it open", async () => {
  await open({
    answers: { Think: [{ reasoning_content: "First *this*." }, { reasoning_content: " Then that." }, "So: yes.", " Done."] },
    holdAt: 1,
  });
  await say("Think");
  const reasoning = page.locator(".reasoning");
  await expect(reasoning).toHaveAttribute("open", "");
  await expect(reasoning.locator("em")).toHaveText("this");
  await release(page);
  await expect(answers().last()).toContainText("Done.");
  await expect(reasoning).not.toHaveAttribute("open", "");
  await page.getByText("Reasoning").click();
  await expect(reasoning).toContainText("Then that.");
  await say("Again");
  const { messages } = (await requestsOf(page)).at(-1) ?? { messages: [] };
  expect(messages).toEqual([
    { role: "user", content: "Think" },
    { role: "assistant", content: "So: yes. Done." },
    { role: "user", content: "Again" },
  ]);
});

test("tool calls are shown, and a result that is given goes back to the model", async () => {
  await open({ answers: { Weather: CALLS } });
  await say("Weather");
  await expect(page.locator(".tool-calls summary")).toContainText("weather");
  await expect(page.locator(".tool-calls pre")).toHaveText('{\n  "city": "Oslo"\n}');
  await expectAccessible(page);
  await page.getByLabel("Result of weather").fill("rain");
  await page.getByRole("button", { name: "Give result" }).click();
  await expect(answers().last()).toHaveText("You said: rain");
  const { messages } = (await requestsOf(page)).at(-1) ?? { messages: [] };
  expect(messages.slice(1)).toEqual([
    {
      role: "assistant",
      content: "",
      tool_calls: [{ id: "call-1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } }],
    },
    { role: "tool", content: "rain", tool_call_id: "call-1" },
  ]);
});

test("stop and Escape keep what was said; a failure says why and offers another try", async () => {
  const slow = Array.from({ length: 100 }, (_, index) => `word${index} `);
  await open({ answers: { Long: slow }, holdAt: 10, failing: { Fail: "Cannot go on: the GPU was lost" } });
  await say("Long");
  await expect(answers()).toContainText("word1");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.locator(".ending")).toHaveText("Stopped.");
  await expect(answers()).toContainText("word1");
  await say("Long");
  await expect(answers().last()).toContainText("word1");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0);
  await say("Fail");
  await expect(page.locator(".ending.failed")).toContainText("the GPU was lost");
  await expectAccessible(page);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.locator(".siblings")).toContainText("2/2");
});

test("what is sent while an answer is being written waits for its end, in another conversation too; writing on keeps it back", async () => {
  const slow = Array.from({ length: 20 }, (_, index) => `word${index} `);
  await open({ answers: { Long: slow }, holdAt: 10 });
  await say("Long");
  await expect(answers()).toContainText("word2");
  await page.getByRole("button", { name: "New conversation" }).click();
  await say("Next");
  await expect(page.getByText("Sent as soon as the answer is complete.")).toBeVisible();
  await expectAccessible(page);
  await field().press("End");
  await field().pressSequentially(" one");
  await expect(page.getByText("Sent as soon as the answer is complete.")).toBeHidden();
  await field().press("Enter");
  await release(page);
  await expect(answers()).toHaveText("You said: Next one");
  await expect(field()).toHaveValue("");
  await expect(rows()).toHaveCount(2);
});

test("editing and regenerating make branches, and a person goes from one to the other", async () => {
  await open();
  await say("One");
  await expect(answers()).toHaveText("You said: One");
  await say("Two");
  await expect(answers()).toHaveCount(2);
  await page.locator(".message.user").first().hover();
  await page.getByRole("button", { name: "Edit" }).first().click();
  const edit = page.getByLabel("Your message", { exact: true });
  await expect(edit).toBeFocused();
  await expectAccessible(page);
  await edit.press("Escape");
  await expect(page.getByRole("button", { name: "Edit" }).first()).toBeFocused();
  await page.keyboard.press("Enter");
  await edit.fill("Uno");
  await edit.press("Enter");
  await expect(answers()).toHaveText(["You said: Uno"]);
  await expect(page.locator(".siblings")).toHaveText("2/2");
  await page.getByRole("button", { name: "Previous version" }).click();
  await expect(answers()).toHaveText(["You said: One", "You said: Two"]);
  await page.getByRole("button", { name: "Regenerate" }).last().click();
  await expect(page.locator(".siblings")).toHaveText(["1/2", "2/2"]);
  await isKept(page);
  await page.reload();
  await rows().getByRole("button", { name: "One", exact: true }).click();
  await expect(answers()).toHaveText(["You said: One", "You said: Two"]);
  await expect(page.locator(".siblings")).toHaveText(["1/2", "2/2"]);
  await page.getByRole("button", { name: "Next version" }).first().click();
  await expect(answers()).toHaveText(["You said: Uno"]);
});

test("conversations are searched, renamed, deleted and had back, by keys alone", async () => {
  await open();
  for (const text of ["Apples and pears", "Boats", "Clouds"]) {
    await page.keyboard.press("Control+Shift+O");
    await say(text);
    await expect(answers()).toHaveText(`You said: ${text}`);
  }
  await expect(rows()).toHaveText(["Clouds", "Boats", "Apples and pears"]);
  await page.keyboard.press("Control+k");
  await expect(page.getByLabel("Search conversations")).toBeFocused();
  await page.keyboard.type("PEARS said");
  await expect(rows()).toHaveText(["Apples and pears"]);
  await page.keyboard.press("Tab");
  await expect(rows().getByRole("button").first()).toBeFocused();
  await page.keyboard.press("F2");
  await expect(page.getByLabel("Title")).toBeFocused();
  await page.keyboard.type("Fruit");
  await page.keyboard.press("Enter");
  await expect(rows()).toHaveText(["Fruit"]);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("menuitem", { name: "Rename" })).toBeFocused();
  await expectAccessible(page);
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await expect(rows()).toHaveCount(0);
  await expect(page.getByText("No conversation has these words.")).toBeVisible();
  await page.getByRole("button", { name: "Undo" }).press("Enter");
  await expect(rows()).toHaveText(["Fruit"]);
  await isKept(page);
  await page.reload();
  await expect(rows()).toHaveText(["Clouds", "Boats", "Fruit"]);
});

test("keys that come one upon another find the focus where they are meant for", async () => {
  await open();
  for (const text of ["One", "Two"]) {
    await page.keyboard.press("Control+Shift+O");
    await say(text);
    await expect(answers()).toHaveText(`You said: ${text}`);
  }
  // None waits for what the one before it brings onto the page.
  const press = async (...keys: readonly string[]): Promise<void> => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await press("Control+k", "T", "w", "o", "Tab", "F2", "N", "e", "w", "Enter", "Tab", "Enter", "ArrowDown");
  await expect(page.getByRole("menuitem", { name: "Markdown" })).toBeFocused();
  await press("Escape");
  await expect(rows()).toHaveText(["New"]);
  await press("Enter", "Enter", "Escape", "Tab", "Enter", "End", "Escape", "Shift+Tab", "Delete");
  await expect(page.getByLabel("Search conversations")).toBeFocused();
  await press("Control+a", "Delete", "Tab", "Delete");
  await expect(rows()).toHaveCount(0);
  await press("Control+Shift+O", "a", "Control+,", "Escape", "Control+/", "Escape", "b", "Enter");
  await expect(page.locator(".message.user")).toHaveText("ab");
  await expect(answers()).toHaveText("You said: ab");
  await isAnswered();
  await press("ArrowUp", "c", "Escape", "Enter", "d", "Enter");
  await expect(answers()).toHaveText("You said: abd");
  await expect(field()).toBeFocused();
});

test("conversations go out as JSON and Markdown and come back; a broken file says where, and nothing is lost", async () => {
  await open({ answers: { Hi: [{ reasoning_content: "greet" }, "Hello **you**."] } });
  await say("Hi");
  await expect(page.locator(".stats")).toBeVisible();
  await page.getByRole("button", { name: "More of “Hi”" }).click();
  expect(await textOfDownload(() => page.getByRole("menuitem", { name: "Markdown" }).click())).toBe(
    "# Hi\n\n## You\n\nHi\n\n## Model\n\n> greet\n\nHello **you**.\n",
  );
  await page.getByRole("button", { name: "Settings" }).click();
  const json = await textOfDownload(() => page.getByRole("button", { name: "Export all" }).click());
  await page.keyboard.press("Escape");
  const notice = page.locator(".notice");
  for (const [broken, where] of [
    ["{", "not JSON"],
    [json.slice(0, -9), "not JSON"],
    [json.replace('"role": "assistant"', '"role": 7'), "conversations[0].messages[1].role"],
    [json.replace("shoal-conversations", "other"), "format is wrong"],
    ['{"format":"shoal-conversations","version":2,"conversations":[{"title":7}]}', "conversations[0]"],
  ] as const) {
    await chooseFile(broken);
    await expect(notice).toContainText(where);
    await expect(rows()).toHaveText(["Hi"]);
    await page.getByRole("button", { name: "Close" }).click();
  }
  await chooseFile(json);
  await expect(notice).toContainText("1 conversation is imported.");
  await expect(rows()).toHaveText(["Hi", "Hi"]);
  await isKept(page);
  await page.reload();
  await expect(rows()).toHaveText(["Hi", "Hi"]);
  await rows().getByRole("button", { name: "Hi", exact: true }).last().click();
  await expect(answers()).toHaveText("Hello you.");
});

test("settings are kept within their ranges, asked with, and still there after a reload", async () => {
  await open();
  await page.keyboard.press("Control+,");
  const dialog = page.getByRole("dialog", { name: "Settings" });
  await dialog.getByLabel("System prompt").fill("Be brief.");
  await dialog.getByLabel("Temperature", { exact: true }).fill("9");
  await dialog.getByLabel("Top-k", { exact: true }).fill("40");
  await dialog.getByLabel("Seed").fill("7");
  await dialog.getByLabel("Longest answer", { exact: true }).fill("64");
  await dialog.getByText("Dark", { exact: true }).click();
  await expect(dialog.getByLabel("Temperature", { exact: true })).toHaveValue("2");
  await expectAccessible(page);
  await page.keyboard.press("Escape");
  await expect(field()).toBeFocused();
  await say("Hi");
  const asked = {
    temperature: 2,
    top_k: 40,
    seed: 7,
    max_tokens: 64,
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
    ],
  };
  await expect.poll(async () => (await requestsOf(page)).at(-1)).toMatchObject(asked);
  await page.reload();
  await expect(page.locator("html")).toHaveCSS("color-scheme", "dark");
  await expect(field()).toBeFocused();
  await page.keyboard.press("Control+,");
  await expect(dialog.getByLabel("Longest answer", { exact: true })).toHaveValue("64");
  await dialog.getByRole("button", { name: "Reset these numbers" }).click();
  await expect(dialog.getByLabel("Temperature", { exact: true })).toHaveValue("0");
});

test("a hostile answer runs nothing, loads nothing, and is shown", async () => {
  const elsewhere: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(site.server.url) && !/^(?:data|blob):/.test(request.url())) elsewhere.push(request.url());
  });
  await open({ answers: { Attack: HOSTILE.split(/(?=<)|(?<= )/), Bomb: [BOMB] }, delayMs: 1 });
  await say("Attack");
  await expect(answers().locator("strong")).toHaveText("bold");
  await expect(answers()).toContainText("<script>window.hacked=2</script>");
  await expect(answers().locator(".image-link")).toContainText("tracker.invalid, not loaded");
  await expect(answers().locator("img, iframe, script, style, svg[onload]")).toHaveCount(0);
  const links = () =>
    answers()
      .locator("a")
      .evaluateAll((all) => all.map((link) => [link.getAttribute("href"), link.getAttribute("rel")]));
  // The second comes near the answer's end.
  await expect.poll(links).toEqual([
    ["https://tracker.invalid/pixel.png?secret", "noopener noreferrer"],
    ["https://ok.invalid/", "noopener noreferrer"],
  ]);
  expect(await page.evaluate(() => "hacked" in globalThis)).toBe(false);
  await say("Bomb");
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
  await say("Attack");
  await expect(answers().last().locator("strong")).toHaveText("bold", { timeout: 90_000 });
  expect(elsewhere).toEqual([]);
});

test("the security policy is strict, and text cannot become HTML by any way", async () => {
  await open();
  const policy = (await page.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute("content")) ?? "";
  expect(policy).toContain("script-src 'self'");
  expect(policy).not.toContain("unsafe");
  const refused = await page.evaluate(() => {
    try {
      document.body.innerHTML = "<b>x</b>";
      return false;
    } catch (error) {
      return error instanceof TypeError;
    }
  });
  expect(refused).toBe(true);
  await expect.poll(() => problems.length).toBeGreaterThan(0);
  expect(problems.every((text) => text.includes("TrustedHTML"))).toBe(true);
  (problems as string[]).length = 0;
});

test("screen readers hear that an answer comes and what it says, not every token", async () => {
  const words = Array.from({ length: 60 }, (_, index) => `word${index} `);
  await open({ answers: { Long: words }, delayMs: 10 });
  const heard = await heardFrom(page, ".scroll-area > [role=status]");
  await say("Long");
  await expect(page.locator(".stats")).toBeVisible();
  await expect.poll(heard).toEqual(["The model is answering.", `Answer: ${words.join("")}`]);
  // No other live region has the answer in it.
  const live = page.locator("[aria-live], [role=status], [role=log], [role=alert]").filter({ hasText: "word5" });
  await expect(live).toHaveCount(1);
});

test("keys reach everything, and the focus is where a person expects it", async () => {
  await open();
  await page.getByText("To the message field").focus();
  await expect(page.getByText("To the message field")).toBeInViewport();
  await page.keyboard.press("Enter");
  await expect(field()).toBeFocused();
  await say("Hi");
  await expect(answers()).toHaveText("You said: Hi");
  await isAnswered();
  await expect(field()).toBeFocused();
  await page.keyboard.press("ArrowUp");
  await expect(page.getByLabel("Your message", { exact: true })).toBeFocused();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await expect(field()).toBeFocused();
  await page.keyboard.press("Control+/");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await expectAccessible(page);
  await page.keyboard.press("Escape");
  await expect(field()).toBeFocused();
  await page.keyboard.press("Control+b");
  await expect(page.getByRole("navigation", { name: "Conversations" })).toBeHidden();
  await page.keyboard.press("Control+b");
  await expect(page.getByRole("navigation", { name: "Conversations" })).toBeVisible();
});

test("an answer goes on while another conversation is looked at, and another tab hears of it", async () => {
  const words = Array.from({ length: 40 }, (_, index) => `word${index} `);
  await open({ answers: { Long: words }, holdAt: 10 });
  const other = await context.newPage();
  await answerWith(other, {});
  await other.goto(site.server.url);
  await say("Long");
  await expect(answers()).toContainText("word2");
  await page.getByRole("button", { name: "New conversation" }).click();
  await expect(page.getByText("An answer is being written in another conversation.")).toBeVisible();
  await expect(page.getByLabel("An answer is being written")).toBeVisible();
  await page.getByRole("button", { name: "Show it" }).click();
  await release(page);
  await expect(page.locator(".stats")).toBeVisible();
  await expect(answers()).toContainText("word39");
  await other.locator(".conversations li").getByRole("button", { name: "Long", exact: true }).click();
  await expect(other.locator(".message.assistant")).toContainText("word39");
});

test("360 pixels are enough, and axe finds nothing serious, in light and in dark", async () => {
  const fits = async (): Promise<void> => {
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await expectAccessible(page);
    }
  };
  await page.setViewportSize({ width: 360, height: 740 });
  await open({
    answers: { Show: [{ reasoning_content: "hm" }, `${RICH}\n\n${"x".repeat(200)} https://a.invalid/${"y".repeat(200)}`] },
    failing: { Fail: "Cannot go on" },
  });
  await fits();
  await say("Show");
  await expect(answers().locator("mfrac")).toHaveCount(1);
  await expect(answers().locator(".hljs-keyword")).toHaveCount(1);
  await fits();
  await say("Fail");
  await expect(page.locator(".ending.failed")).toBeVisible();
  await fits();
  const menu = page.getByRole("button", { name: "Menu", exact: true });
  await menu.click();
  await expect(page.getByRole("button", { name: "New conversation" })).toBeFocused();
  await expect(field()).not.toBeFocused();
  await fits();
  await page.keyboard.press("Escape");
  await expect(menu).toBeFocused();
  await menu.click();
  await page.getByRole("button", { name: "Settings" }).click();
  await fits();
});
