/**
 * Lets a page's thread run whenever it can, as it does where a GPU and further processors do the rest: everything of the browser but its GPU process goes before whatever else
 * wants a processor, and the page's threads before that. A processor that stands in for the GPU, and for other programs, otherwise leaves a page waiting in the midst of a task.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import type { Browser } from "playwright/test";

/** @returns what ends it; undefined where this machine does not allow it, for it takes Linux, util-linux and root */
export async function givePrecedence(browser: Browser): Promise<(() => void) | undefined> {
  const devtools = await browser.newBrowserCDPSession();
  const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
  await devtools.detach();
  const others = processInfo.filter(({ type }) => type !== "GPU").map(({ id }) => id);
  const pages = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  const end = (): void => {
    for (const id of others) schedule("--all-tasks", "--other", "--pid", "0", `${id}`);
  };
  const given = others.every((id) => schedule("--all-tasks", "--fifo", "--pid", "1", `${id}`));
  // A process's first thread has its number.
  if (given && pages.every((id) => schedule("--fifo", "--pid", "2", `${id}`))) return end;
  end();
  return undefined;
}

/** A thread may end while it is done, which makes it fail. */
const TRIES = 3;

function schedule(...options: readonly string[]): boolean {
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      execFileSync("chrt", options, { stdio: "ignore" });
      return true;
    } catch {
      if (!existsSync(`/proc/${options.at(-1)}`)) return true;
    }
  }
  return false;
}
