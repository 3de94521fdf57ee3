/**
 * `npm start`: sets everything up, then chats. Words are a prompt, answered once; without one, on a terminal, it is an interactive chat. `--page` builds the
 * chat page, serves it on this machine and opens it in the browser.
 *
 *   npm start -- "What is the capital of France?"
 *   npm start -- --page
 *   npm start -- --help
 */
import { launchShoal } from "./setup/launch.mjs";

const args = process.argv.slice(2);
if (args.includes("--page")) {
  const { startPage } = await import("./setup/page.mjs");
  process.exitCode = await startPage();
} else process.exitCode = await launchShoal(["chat", ...args]);
