/**
 * `npm start`: sets everything up, then chats. Words are a prompt, answered once; without one, on a terminal, it is an interactive chat.
 *
 *   npm start -- "What is the capital of France?"
 *   npm start -- --help
 */
import { launchShoal } from "./setup/launch.mjs";

process.exitCode = await launchShoal(["chat", ...process.argv.slice(2)]);
