/**
 * The main thread is free while an answer is written, as long-task entries have it and as what each task computed; and few elements come between two frames. SHOAL_LONG=1 takes
 * longer answers, and longer ones of the model itself, than `visit.spec.ts` does.
 */
import { type Browser, type Page, expect, test } from "playwright/test";
import { type ChatSite, answerWith, serveChat } from "./chatSite.ts";
import { expectFree, mostOf, watchAnswer } from "./mainThread.ts";

const LONG = process.env["SHOAL_LONG"] === "1";
/** Of elements and texts; what the page allows itself between two frames, twice, because frames and turns alternate. */
const MOST_A_FRAME = 1000;
const WORDS = "Words of a paragraph with **bold** and `code`. ";
const section = (at: number): string =>
  `## Part ${at}\n\n${WORDS.repeat(6)}\n\n- a list\n- of items\n\n\`\`\`ts\n${"const value = compute(1, 2);\n".repeat(8)}\`\`\`\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n$x_${at}^2$\n\n`;
const many = (count: number, one: (at: number) => string): string => Array.from({ length: count }, (_, at) => one(at)).join("");
const LINES = many(400, (at) => `const value${at} = compute(${at}, "text"); // why\n`);
const ROWS = many(300, (at) => `| ${at} | **bold** | \`code\` | some words |\n`);
const ITEMS = many(500, (at) => `- item ${at} with **bold** and \`code\`\n`);
const TABLE = `| a | b | c | d |\n|--|--|--|--|\n${ROWS}\n`;
const CODE = `\`\`\`ts\n${LINES}\`\`\`\n\n`;

let site: ChatSite;
test.beforeAll(async () => {
  site = await serveChat();
});
test.afterAll(() => site.close());

async function open(browser: Browser, text: string, piece: RegExp, delayMs: number): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await answerWith(page, { answers: { Go: text.match(piece) ?? [] }, delayMs });
  await page.goto(site.server.url);
  await page.getByLabel("Message", { exact: true }).waitFor();
  return page;
}

async function expectFreeOver(browser: Browser, text: string, piece: RegExp): Promise<void> {
  await expectFree(async () => {
    // At 250 pieces a second: more than most models give.
    const page = await open(browser, text, piece, 4);
    const watched = await watchAnswer(browser, page, "Go");
    await page.context().close();
    return watched;
  });
}

test("no task of the page is long while an answer is written", ({ browser }) => expectFreeOver(browser, many(8, section), /[^]{1,6}/g));

test("an answer that comes at once comes onto the page in parts, and whole", async ({ browser }) => {
  const page = await open(browser, `${TABLE}${ITEMS}\n${CODE}${WORDS.repeat(100)}`, /[^]+/g, 0);
  await page.evaluate(() => {
    const scope = globalThis as unknown as { frames: number[] };
    scope.frames = [0];
    const sizeOf = (node: Node): number => 1 + [...node.childNodes].reduce((sum, child) => sum + sizeOf(child), 0);
    const inAnswer = ({ target }: MutationRecord): boolean => target instanceof Element && target.closest(".markdown") !== null;
    new MutationObserver((records) => {
      const added = records.filter(inAnswer).flatMap(({ addedNodes }) => [...addedNodes]);
      // What was put into something new counts with that.
      const roots = added.filter((node) => !added.some((other) => other !== node && other.contains(node)));
      scope.frames[scope.frames.length - 1] = (scope.frames.at(-1) ?? 0) + roots.reduce((sum, node) => sum + sizeOf(node), 0);
    }).observe(document.body, { childList: true, subtree: true });
    const next = (): void => {
      if (scope.frames.at(-1) !== 0) scope.frames.push(0);
      requestAnimationFrame(next);
    };
    next();
  });
  await page.getByLabel("Message", { exact: true }).fill("Go");
  await page.keyboard.press("Enter");
  const answer = page.locator(".message.assistant .markdown");
  await expect(answer.locator("tr")).toHaveCount(301);
  await expect(answer.locator("li")).toHaveCount(500);
  await expect(answer.locator(".hljs-comment")).toHaveCount(400);
  await expect(answer.locator("p strong")).toHaveCount(100);
  expect(await answer.locator("pre").textContent()).toBe(LINES.trimEnd());
  // As it is copied by hand.
  const selected = await answer.locator("pre").evaluate((pre) => {
    getSelection()?.selectAllChildren(pre);
    return getSelection()?.toString();
  });
  expect(selected?.trimEnd()).toBe(LINES.trimEnd());
  const frames = await page.evaluate(() => (globalThis as unknown as { frames: number[] }).frames);
  console.log(`elements and texts: ${frames.reduce((a, b) => a + b)} in ${frames.length} frames, at most ${mostOf(frames)} between two`);
  expect(mostOf(frames)).toBeLessThan(MOST_A_FRAME);
  await page.context().close();
});

test.describe("longer answers", () => {
  test.skip(!LONG, "SHOAL_LONG=1 only");

  for (const [name, text] of Object.entries({ mixed: many(40, section), TABLE, ITEMS, CODE, paragraph: WORDS.repeat(600) }))
    test(`${name}: ${text.length} characters`, ({ browser }) => expectFreeOver(browser, text, /[^]{1,60}/g));

  test("the model itself, with the panel closed and open", async ({ browser }) => {
    test.setTimeout(1_800_000);
    const page = await (await browser.newContext()).newPage();
    await page.goto(site.server.url);
    await page.getByRole("button", { name: "Download and start" }).click({ timeout: 120_000 });
    await page.getByLabel("Message", { exact: true }).waitFor({ timeout: 240_000 });
    for (const panel of ["closed", "open"]) {
      if (panel === "open") await page.getByRole("button", { name: "See the model work" }).click();
      console.log(`panel ${panel}:`);
      await expectFree(() => watchAnswer(browser, page, "Tell me a story about a brave fox and a lantern."));
    }
    await page.context().close();
  });
});
