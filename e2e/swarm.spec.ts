/** Swarms in the page, the browser on a host of its own in a network lab: ICE binds every interface that it finds. Needs Linux, root, gcc and iproute2. */
import { type Page, expect, test } from "playwright/test";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";
import { SwarmLab } from "./test/swarmLab.ts";

const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
const SECONDS = 1000;

let site: ChatSite;

test.beforeAll(async () => {
  site = await serveChat();
});

test.afterAll(async () => {
  await site.close();
});

async function open(page: Page, url: string, invite: string): Promise<void> {
  // A page that differs by what is behind its # alone is not loaded again.
  await page.goto("about:blank");
  await page.goto(`${url}#invite=${invite}`);
  await expect(page.getByLabel("Invite")).toHaveValue(invite);
}

async function ask(page: Page): Promise<void> {
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel("Message").fill(QUESTION);
  await page.keyboard.press("Enter");
}

function answer(page: Page) {
  return page.locator(".message.assistant .markdown").last();
}

test("a page that holds no layers chats over a peer in Deno, and gets the greedy answer", async () => {
  const lab = await SwarmLab.up(["relay", "peer", "page"], site.folder);
  try {
    const invite = await lab.create("relay");
    const [{ page, url }] = await Promise.all([
      lab.browser("page"),
      lab.join("peer", [invite, "--context", "512", "--max-sequences", "2", "--webgpu", "wgpu"]),
    ]);
    const problems = problemsOf(page);
    await open(page, url, invite);
    const begin = Date.now();
    await page.getByRole("button", { name: "Chat over it" }).click();
    await expect(page.getByText("What you write goes to the peers of a swarm")).toBeVisible({ timeout: 60 * SECONDS });
    await expect(page).not.toHaveURL(/shoal:/);
    const entered = Date.now();
    await ask(page);
    await expect(answer(page)).toHaveText(ANSWER, { timeout: 60 * SECONDS });
    console.log(`in after ${(entered - begin) / 1000} s, answered after ${(Date.now() - begin) / 1000} s`);
    await page.getByRole("button", { name: "Swarm", exact: true }).click();
    await expect(page.getByText("All 6 layers are held")).toBeVisible();
    await expect(page.getByText("layers 0–5 on this page’s path")).toBeVisible();
    await expectAccessible(page);
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    await page.screenshot({ path: test.info().outputPath("swarm-360.png") });
    expect(problems).toEqual([]);
  } finally {
    await lab.down();
  }
});
