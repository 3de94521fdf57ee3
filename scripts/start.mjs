/**
 * `npm start`: sets everything up, then chats. Words are a prompt, answered once; without one, on a terminal, it is an interactive chat. `--page` builds the
 * chat page, serves it on this machine and opens it in the browser.
 *
 *   npm start -- "What is the capital of France?"
 *   npm start -- --page
 *   npm start -- --help
 */
import { launchShoal } from "./setup/launch.mjs";

const PAGE_HELP = `Usage: npm start -- --page

Builds the chat page, serves it to this machine alone and opens it in the browser. Ctrl-C ends it.
Without --page it is a chat in the terminal: npm start -- --help
`;

const args = process.argv.slice(2);
const others = args.filter((arg) => arg !== "--page");
if (others.length === args.length) process.exitCode = await launchShoal(["chat", ...args]);
else if (others.some((arg) => arg === "--help" || arg === "-h")) process.stdout.write(PAGE_HELP);
else if (others.length > 0) {
  process.stderr.write(`Cannot use '${others[0]}' together with --page, expected nothing else\n\n${PAGE_HELP}`);
  process.exitCode = 2;
} else {
  const { startPage } = await import("./setup/page.mjs");
  process.exitCode = await startPage();
}
