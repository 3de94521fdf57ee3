/**
 * Swarms in the page, each browser on a host of its own in a network lab: ICE binds every interface that it finds. Needs Linux, root, gcc and iproute2. SHOAL_LONG=1 adds pages that
 * lend their GPU, whose kernels take long to compile on SwiftShader.
 */
import { type Page, expect, test } from "playwright/test";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";
import { SwarmLab } from "./test/swarmLab.ts";

const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
const SECONDS = 1000;
/** Holds half of the model's layers with embedding or head, not the model. */
const HALF_GB = "0.03";
/** Holds two layers at most, of six; the same for a page and for a program, which reserve room for contexts of other lengths. */
const QUARTER = { gigabytes: "0.0221", megabytes: "20.2MB" } as const;
const SIZES = ["--context", "512", "--max-sequences", "2", "--webgpu", "wgpu"] as const;
const isLong = process.env["SHOAL_LONG"] === "1";

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

async function lend(page: Page, gigabytes: string): Promise<void> {
  await page.getByLabel("Memory to lend").fill(gigabytes);
  await page.getByRole("button", { name: "Join and lend this GPU" }).click();
}

/** @returns which layers, as the page tells */
async function serving(page: Page): Promise<string> {
  const status = page.getByText(/^Serving layers? /);
  await expect(status).toBeVisible({ timeout: 200 * SECONDS });
  return /layers? [\d–]+/.exec((await status.textContent()) ?? "")?.[0] ?? "";
}

async function leave(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Swarm", exact: true }).click();
  await page.getByRole("button", { name: "Leave the swarm" }).click();
  await expect(page.getByRole("heading", { name: "Enter a swarm" })).toBeVisible({ timeout: 30 * SECONDS });
}

/** What the page's worker says of itself: when it had got where, in seconds from `begin`, and how long it compiled. */
async function timeline(page: Page, begin: number): Promise<string> {
  const [worker] = page.workers().filter((one) => one.url().includes("worker"));
  if (!worker) return "no worker";
  const { marks, compiling } = await worker.evaluate((from) => {
    const at = (time: number): number => performance.timeOrigin + time - from;
    const marks = performance.getEntriesByType("mark").map(({ name, startTime }) => [name.replace("swarm: ", ""), at(startTime)] as const);
    const spans = performance.getEntriesByType("measure").map(({ startTime, duration }) => [startTime, startTime + duration] as const);
    let [end, compiling] = [0, 0];
    for (const [start, stop] of spans.sort(([a], [b]) => a - b)) {
      compiling += Math.max(0, stop - Math.max(start, end));
      end = Math.max(end, stop);
    }
    return { marks, compiling: `${spans.length} kernels compiled in ${(compiling / 1000).toFixed(1)} s` };
  }, begin);
  return [...marks.map(([name, ms]) => `${name} ${(ms / 1000).toFixed(1)}`), compiling].join(", ");
}

function answer(page: Page) {
  return page.locator(".message.assistant .markdown").last();
}

test("a page that holds no layers chats over a peer in Deno, and gets the greedy answer", async () => {
  const lab = await SwarmLab.up(["relay", "peer", "page"], site.folder);
  try {
    const invite = await lab.create("relay");
    const [{ page, url }] = await Promise.all([lab.browser("page"), lab.join("peer", [invite, ...SIZES])]);
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

if (isLong)
  test("two browsers and a relay: each lends half of the model's layers, and both chat", async () => {
    test.setTimeout(900 * SECONDS);
    const lab = await SwarmLab.up(["relay", "one", "two"], site.folder);
    try {
      const invite = await lab.create("relay");
      const [one, two] = await Promise.all([lab.browser("one"), lab.browser("two")]);
      const problems = [problemsOf(one.page), problemsOf(two.page)];
      /** @returns seconds from the invite to the first token */
      const time = async (what: string): Promise<number> => {
        const begin = Date.now();
        await Promise.all(
          [one, two].map(async ({ page, url }) => {
            await open(page, url, invite);
            await lend(page, HALF_GB);
          }),
        );
        expect((await Promise.all([serving(one.page), serving(two.page)])).sort()).toEqual(["layers 0–2", "layers 3–5"]);
        const served = Date.now();
        await expect(one.page.getByText("All 6 layers are held")).toBeVisible({ timeout: 10 * SECONDS });
        await ask(one.page);
        await expect(answer(one.page)).toContainText("The", { timeout: 120 * SECONDS });
        const seconds = (Date.now() - begin) / SECONDS;
        console.log(`${what}: from invite to serving ${(served - begin) / SECONDS} s, to the first token ${seconds} s`);
        for (const { page } of [one, two]) console.log(`  ${await timeline(page, begin)}`);
        await expect(answer(one.page)).toHaveText(ANSWER, { timeout: 60 * SECONDS });
        return seconds;
      };
      await time("weights fetched");
      await Promise.all([leave(one.page), leave(two.page)]);
      expect(await time("weights kept")).toBeLessThan(30);
      await ask(two.page);
      await expect(answer(two.page)).toHaveText(ANSWER, { timeout: 120 * SECONDS });
      expect(problems).toEqual([[], []]);
    } finally {
      await lab.down();
    }
  });

if (isLong)
  test("two browsers and two programs, none of which can hold the model: a page and a program get what one device gives", async () => {
    test.setTimeout(900 * SECONDS);
    const lab = await SwarmLab.up(["relay", "a", "b", "one", "two", "client"], site.folder);
    try {
      const invite = await lab.create("relay");
      const generate = ["generate", "--temperature", "0", "--max-new-tokens", "24", "--json", QUESTION];
      const ids = async (...more: readonly string[]): Promise<unknown> =>
        (JSON.parse(await lab.run("client", [...generate, ...more])) as { readonly ids: unknown }).ids;
      const expected = await ids("--webgpu", "wgpu", "--context", "512");
      const [one, two] = await Promise.all([lab.browser("one"), lab.browser("two")]);
      const programs = ["a", "b"].map((host) => lab.join(host, [invite, "--memory", QUARTER.megabytes, ...SIZES]));
      const pages = [one, two].map(async ({ page, url }) => {
        await open(page, url, invite);
        await lend(page, QUARTER.gigabytes);
        return serving(page);
      });
      const told = await Promise.all([...programs, ...pages]);
      console.log(told.map((text) => text.trim().split(" as ")[0]).join("; "));
      await expect(one.page.getByText("All 6 layers are held")).toBeVisible({ timeout: 10 * SECONDS });
      await expect(one.page.getByText("4 peers hold layers")).toBeVisible();
      expect(await ids("--swarm", invite)).toEqual(expected);
      await ask(one.page);
      await expect(answer(one.page)).toHaveText(ANSWER, { timeout: 120 * SECONDS });
    } finally {
      await lab.down();
    }
  });
