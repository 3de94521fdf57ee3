/**
 * A browser that has no room for the model: what a person is offered, and that it works. By default the browser refuses at a quota; SHOAL_LONG=1 takes a disk that is
 * full, a small one mounted as the browser's profile, which root alone may do.
 */
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type BrowserContext, expect, test } from "playwright/test";
import { type ChatSite, expectAccessible, problemsOf, serveChat } from "./chatSite.ts";

const OPEN = { timeout: 120_000 };

let site: ChatSite;
let profile: string;
let context: BrowserContext | undefined;

test.beforeAll(async () => {
  site = await serveChat();
});
test.afterAll(() => site.close());
test.beforeEach(async () => {
  profile = await mkdtemp(path.join(tmpdir(), "shoal-profile-"));
});
test.afterEach(async () => {
  await context?.close();
  await rm(profile, { recursive: true, force: true });
});

test("a refused quota leads to a choice, and the model runs without being kept", async ({ playwright }, { project }) => {
  // Contexts that keep nothing on a disk are counted otherwise.
  context = await playwright.chromium.launchPersistentContext(profile, project.use.launchOptions ?? {});
  const page = await context.newPage();
  const problems = problemsOf(page);
  const button = (name: string) => page.getByRole("button", { name, exact: true });
  const refused = page.getByRole("heading", { name: "No room for the model" });
  const devtools = await context.newCDPSession(page);
  const origin = new URL(site.server.url).origin;
  await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 16_000_000 });
  await page.goto(site.server.url);
  await button("Download and start").click(OPEN);
  await expect(refused).toBeVisible(OPEN);
  await expect(page.getByRole("alert")).toContainText("Free some disk space or delete other models");
  await expectAccessible(page);
  for (const name of ["Other models", "Use a server"]) await expect(button(name)).toBeEnabled();
  await button("Run without keeping it").click();
  await expect(page.getByLabel("Message", { exact: true })).toBeVisible(OPEN);
  expect(problems).toEqual([]);
});

test("a browser that gives no storage at all says so before any download, with the same choice", async ({ browser }) => {
  const page = await browser.newPage();
  await page.route("**/assets/worker-*.js", async (route) => {
    const response = await route.fetch();
    const refuse = `StorageManager.prototype.getDirectory = async () => { throw new DOMException("It was determined that certain files are unsafe", "SecurityError"); }`;
    await route.fulfill({ response, body: `${refuse};${await response.text()}` });
  });
  await page.goto(site.server.url);
  await expect(page.getByText("The browser has too little room for the model")).toBeVisible(OPEN);
  await expect(page.getByRole("button", { name: "Run without keeping it", exact: true })).toBeEnabled();
  await expectAccessible(page);
  await page.close();
});

test("a disk that is full leads to the same choice", async ({ playwright }, { project }) => {
  test.setTimeout(900_000);
  test.skip(process.env["SHOAL_LONG"] !== "1", "SHOAL_LONG=1 only: it mounts a disk");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=100m", "none", profile]);
  try {
    context = await playwright.chromium.launchPersistentContext(profile, project.use.launchOptions ?? {});
    const page = await context.newPage();
    await page.goto(site.server.url);
    const start = page.getByRole("button", { name: "Download and start", exact: true });
    await expect(start).toBeVisible(OPEN);
    const { bavail, bsize } = await statfs(profile);
    await writeFile(path.join(profile, "fill"), Buffer.alloc(bavail * bsize - 12_000_000));
    await start.click();
    await expect(page.getByRole("heading", { name: "No room for the model" })).toBeVisible(OPEN);
    await page.getByRole("button", { name: "Run without keeping it", exact: true }).click();
    await expect(page.getByLabel("Message", { exact: true })).toBeVisible(OPEN);
    // Not a byte is left on the next visit: the write is meant to fail for want of room.
    await writeFile(path.join(profile, "rest"), Buffer.alloc(64 * 2 ** 20)).catch(() => {});
    await page.reload();
    // A browser that tells of room nevertheless finds that there is none once it fetches.
    const none = page.getByText("The browser has too little room for the model");
    await expect(none.or(start)).toBeVisible(OPEN);
    if (await start.isVisible()) {
      await start.click();
      await expect(page.getByRole("heading", { name: "No room for the model" })).toBeVisible(OPEN);
    }
    await page.getByRole("button", { name: "Run without keeping it", exact: true }).click();
    await expect(page.getByLabel("Message", { exact: true })).toBeVisible(OPEN);
    // And then there is room. What was kept may be gone: Chromium throws away what it could not note down.
    for (const name of ["fill", "rest"]) await rm(path.join(profile, name));
    await context.close();
    context = await playwright.chromium.launchPersistentContext(profile, project.use.launchOptions ?? {});
    const again = await context.newPage();
    await again.goto(site.server.url);
    await again.getByRole("button", { name: "Download and start", exact: true }).click(OPEN);
    await expect(again.getByLabel("Message", { exact: true })).toBeVisible(OPEN);
  } finally {
    await context?.close();
    context = undefined;
    execFileSync("umount", [profile]);
  }
});
