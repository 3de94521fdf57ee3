/** Pictures of the page: wide and phone, light and dark. Conversations are answered by a fake, so that they are the same every time. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type Page, expect, test } from "playwright/test";
import { type ChatSite, type FakeOptions, answerWith, serveChat } from "./chatSite.ts";

const FOLDER = process.env["SCREENSHOTS"] ?? fileURLToPath(new URL("../.shoal/screenshots/", import.meta.url));
const PUBLIC = new URL("../apps/chat/public/", import.meta.url);
/** Those that the READMEs show. */
const IMAGES = fileURLToPath(new URL("../docs/images/", import.meta.url));
const BEST: readonly string[] = [
  "chat-wide-light",
  "chat-wide-dark",
  "chat-phone-light",
  "chat-phone-dark",
  "loading-phone-dark",
  "failed-phone-dark",
  "experts-wide-light",
  "experts-phone-dark",
];
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

const WAVES = "Why do fish swim in shoals?";
const CODE = "Show me softmax in TypeScript, and its formula.";
const ANSWERS: FakeOptions["answers"] = {
  [WAVES]: [
    {
      reasoning_content:
        "The person asks for the reasons. There are mainly three: **safety**, *food*, and saving effort. I will list them briefly.",
    },
    "Mostly because it is **safer**, and a little because it is *easier*:\n\n",
    "1. **Safety in numbers.** A predator that sees a thousand flanks turn at once finds it hard to pick one.\n",
    "2. **Food.** Many eyes find it sooner, and the whole shoal follows those who have.\n",
    "3. **Effort.** In the wake of a neighbour a fish spends up to a fifth less on swimming.\n\n",
    "> A *shoal* is any group of fish that stay together; a *school* swims the same way at the same speed.\n",
  ],
  [CODE]: [
    "The largest logit is subtracted first, so that no exponential overflows:\n\n",
    "```ts\n/** Probabilities of logits. They sum to 1. */\nfunction softmax(logits: readonly number[]): number[] {\n  const largest = Math.max(...logits);\n  const powers = logits.map((logit) => Math.exp(logit - largest));\n  const sum = powers.reduce((total, power) => total + power, 0);\n  return powers.map((power) => power / sum);\n}\n```\n\n",
    "That is\n\n$$\n\\operatorname{softmax}(x)_i = \\frac{e^{x_i - m}}{\\sum_{j=1}^{n} e^{x_j - m}}, \\qquad m = \\max_j x_j\n$$\n\n",
    "| logits | probabilities |\n|---|---|\n| 0, 0 | 0.5, 0.5 |\n| 0, 1, 2 | 0.09, 0.24, 0.67 |\n",
  ],
};

let site: ChatSite;
test.beforeAll(async () => {
  site = await serveChat();
  await mkdir(FOLDER, { recursive: true });
  await mkdir(IMAGES, { recursive: true });
});
test.afterAll(() => site.close());

async function shot(page: Page, name: string): Promise<void> {
  // What is under the pointer looks otherwise.
  await page.mouse.move(0, 0);
  await page.waitForTimeout(400);
  const png = await page.screenshot({ path: path.join(FOLDER, `${name}.png`) });
  if (!BEST.includes(name)) return;
  const encoder = await page.context().newPage();
  const webp = await encoder.evaluate(toWebp, png.toString("base64"));
  await writeFile(path.join(IMAGES, `${name}.webp`), Buffer.from(webp, "base64"));
  await encoder.close();
}

/** Runs in a page. A third of the PNG's bytes. */
async function toWebp(png: string): Promise<string> {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/webp", quality: 0.88 })).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0);
  await expect(page.locator(".stats").last()).toBeVisible();
}

test("the icons that systems want as pixels, from the one that is drawn", async ({ page }) => {
  const drawn = await readFile(new URL("icon.svg", PUBLIC), "utf8");
  // A system cuts its own shape out of a maskable one, and leaves the circle of four fifths.
  const bleeding = drawn.replace(/ rx="14"/, "").replace("<g ", '<g transform="translate(32 32) scale(0.72) translate(-32 -32)" ');
  for (const [name, size, svg] of [
    ["icon-192.png", 192, drawn],
    ["icon-512.png", 512, drawn],
    ["icon-maskable-512.png", 512, bleeding],
  ] as const) {
    await page.setViewportSize({ width: size, height: size });
    await page.setContent(`<style>body { margin: 0 } svg { display: block; width: 100vw }</style>${svg}`);
    await page.screenshot({ path: fileURLToPath(new URL(name, PUBLIC)), omitBackground: true });
  }
});

test("the first minute, wide", async ({ browser }) => {
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
  const page = await context.newPage();
  await page.goto(site.server.url);
  await page.getByRole("button", { name: "Download and start" }).waitFor({ timeout: 240_000 });
  await shot(page, "first-minute-wide-light");
  site.server.cut = { path: "model-00002-of-00003.safetensors", after: 7_000_000, hangs: true };
  await page.getByRole("button", { name: "Download and start" }).click();
  await expect(page.locator("progress")).toBeVisible();
  await page.waitForTimeout(3000);
  await shot(page, "loading-wide-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(PHONE);
  await shot(page, "loading-phone-dark");
  await page.getByRole("button", { name: "Pause" }).click();
  site.server.cut = { path: "model-00002-of-00003.safetensors", after: 8_000_000 };
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("heading", { name: "The download failed" }).waitFor({ timeout: 240_000 });
  await shot(page, "failed-phone-dark");
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: "light" });
  await shot(page, "failed-wide-light");
  site.server.cut = undefined;
  await context.close();
});

test("the model at work, wide and phone", async ({ browser }) => {
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
  const page = await context.newPage();
  await page.goto(site.server.url);
  await page.getByRole("button", { name: "Download and start" }).click({ timeout: 240_000 });
  // With the first answer kernels are compiled, which on a software adapter takes minutes.
  await page.getByRole("button", { name: "What is the capital of France?" }).click({ timeout: 240_000 });
  await page.locator(".stats").waitFor({ timeout: 280_000 });
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByRole("button", { name: "See the model work" }).click();
  await page.getByLabel("Message", { exact: true }).fill("Tell me a story about a brave fox and a lantern.");
  await page.keyboard.press("Enter");
  await page.locator(".expert-map").waitFor({ timeout: 240_000 });
  await expect(page.getByRole("button", { name: "Send", exact: true })).toBeVisible({ timeout: 240_000 });
  await page.locator(".token").nth(12).hover();
  await shot(page, "experts-wide-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(PHONE);
  await shot(page, "experts-phone-dark");
  await page.locator("#inspector").evaluate((panel) => panel.scrollTo(0, panel.scrollHeight));
  await shot(page, "experts-end-phone-dark");
  await page.locator("#inspector").getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("button", { name: "Models", exact: true }).click();
  await shot(page, "models-phone-dark");
  await page.setViewportSize(WIDE);
  await shot(page, "models-wide-dark");
  await context.close();
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
    test(`${size}, ${colorScheme}`, async ({ browser }) => {
      const context = await browser.newContext({
        viewport,
        colorScheme,
        deviceScaleFactor: size === "phone" ? 2 : 1,
        hasTouch: size === "phone",
      });
      const page = await context.newPage();
      page.on("console", (message) => console.log(message.text()));
      page.on("pageerror", (error) => console.log(String(error)));
      await answerWith(page, { answers: ANSWERS, failing: { "What is wrong?": "Cannot go on: the GPU was lost and none came back" } });
      await page.goto(site.server.url);
      await page.getByLabel("Message", { exact: true }).waitFor();
      await shot(page, `welcome-${size}-${colorScheme}`);
      await say(page, WAVES);
      await page.getByRole("button", { name: "Regenerate" }).click();
      await page.getByText("2/2").waitFor();
      await shot(page, `prose-${size}-${colorScheme}`);
      await page.getByText("Reasoning").click();
      await shot(page, `reasoning-${size}-${colorScheme}`);
      await say(page, CODE);
      await page.locator(".hljs-keyword").first().waitFor();
      await page.locator("math").first().waitFor();
      await shot(page, `chat-${size}-${colorScheme}`);
      if (size === "phone") await page.getByRole("button", { name: "Menu" }).click();
      await page.getByRole("button", { name: "New conversation" }).click();
      await page.getByLabel("Message", { exact: true }).fill("What is wrong?");
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: "Try again" }).waitFor();
      await shot(page, `error-${size}-${colorScheme}`);
      if (size === "phone") await page.getByRole("button", { name: "Menu" }).click();
      await shot(page, `sidebar-${size}-${colorScheme}`);
      await page.getByRole("button", { name: "Settings" }).click();
      await shot(page, `settings-${size}-${colorScheme}`);
      await context.close();
    });
  }
}
