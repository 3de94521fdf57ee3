/**
 * Runs one command of setup's with its output captured. It never reads the terminal: a step that would ask a question fails instead. It ends
 * with this process: an interrupted setup leaves nothing running that would disturb the next one.
 */
import { spawn } from "node:child_process";
import { SetupError } from "./errors.mjs";

/**
 * @typedef {object} CommandOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [env] on top of this process's environment
 * @property {number} [timeoutMs]
 *
 * @typedef {object} CommandResult
 * @property {number} code 0 when it succeeded; 127 when there is no such command
 * @property {string} stdout
 * @property {string} output stdout and stderr as they came
 *
 * @typedef {(command: string, args: string[], options?: CommandOptions) => Promise<CommandResult>} Runner
 */

/** Captured output is for error messages and small answers: the rest of a talkative command's is dropped from the front. */
const MAX_CAPTURE = 4 * 1024 * 1024;

/** @type {Runner} */
export function runCommand(command, args, { cwd, env = {}, timeoutMs } = {}) {
  return new Promise((resolve) => {
    const onWindows = process.platform === "win32";
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
      // Windows finds npx.cmd only through a shell.
      shell: onWindows,
      // A process group of its own, so that what the command has started ends with it.
      detached: !onWindows,
    });
    const endIt = () => {
      try {
        if (child.pid !== undefined) process.kill(onWindows ? child.pid : -child.pid, "SIGTERM");
      } catch {
        // It has just ended.
      }
    };
    process.on("exit", endIt);
    let stdout = "";
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      stdout = (stdout + chunk).slice(-MAX_CAPTURE);
      output = (output + chunk).slice(-MAX_CAPTURE);
    });
    child.stderr.setEncoding("utf8").on("data", (chunk) => {
      output = (output + chunk).slice(-MAX_CAPTURE);
    });
    child.on("error", (error) => {
      process.off("exit", endIt);
      resolve({ code: 127, stdout, output: error.message });
    });
    child.on("close", (code, signal) => {
      process.off("exit", endIt);
      resolve({ code: code ?? 1, stdout, output: signal === null ? output : `${output}\nended by ${signal}` });
    });
  });
}

/**
 * Runs a command that has to succeed.
 * @param {Runner} run
 * @param {string} purpose completes "Cannot ..."
 * @param {[command: string, args: string[], options?: CommandOptions]} call
 * @param {string} [advice]
 * @returns {Promise<CommandResult>}
 */
export async function must(run, purpose, [command, args, options], advice) {
  const result = await run(command, args, options);
  if (result.code === 0) return result;
  throw new SetupError(`Cannot ${purpose}: "${[command, ...args].join(" ")}" ended with ${result.code}`, {
    output: lastLines(result.output, 15),
    ...(advice === undefined ? {} : { advice }),
  });
}

/**
 * @param {string} text
 * @param {number} count
 */
export function lastLines(text, count) {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}
