/** Finds Chromium for the end-to-end tests, and installs it where that needs no question: as root on Debian. */
import { existsSync } from "node:fs";
import path from "node:path";
import { Apt, readOsRelease } from "./apt.mjs";
import { runCommand } from "./command.mjs";
import { SetupError } from "./errors.mjs";
import { step } from "./progress.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const MAC = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"];

/**
 * @param {{ env?: Record<string, string | undefined>, exists?: (file: string) => boolean }} [machine]
 * @returns {string | undefined}
 */
export function findChromium({ env = process.env, exists = existsSync } = {}) {
  const named = env["CHROMIUM_PATH"];
  if (named) return exists(named) ? named : undefined;
  const dirs = (env["PATH"] ?? "").split(path.delimiter).filter((dir) => dir !== "");
  const candidates = NAMES.flatMap((name) => [`/usr/bin/${name}`, ...dirs.map((dir) => path.join(dir, name))]);
  const programs = [env["PROGRAMFILES"], env["PROGRAMFILES(X86)"], env["LOCALAPPDATA"]].filter((dir) => dir !== undefined);
  const windows = programs.map((dir) => path.join(dir, "Google", "Chrome", "Application", "chrome.exe"));
  return [...candidates, ...MAC, ...windows].find(exists);
}

/**
 * @returns {Promise<string>} path of the browser
 */
export async function ensureChromium() {
  const found = findChromium();
  if (found !== undefined) return found;
  const named = process.env["CHROMIUM_PATH"];
  if (named) throw new SetupError(`Cannot use CHROMIUM_PATH: there is no file "${named}"`);
  // Ubuntu's package of that name installs a snap, which a container cannot run.
  const isDebian = readOsRelease().id === "debian";
  if (!isDebian || process.getuid?.() !== 0) {
    throw new SetupError("Cannot find Chromium or Chrome for the end-to-end tests", {
      advice: isDebian
        ? "Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends chromium"
        : "Install Chrome or Chromium, or set CHROMIUM_PATH to its binary.",
    });
  }
  await step("Chromium for the tests", () => new Apt(runCommand).install(["chromium"]));
  const installed = findChromium();
  if (installed === undefined) throw new SetupError("Cannot find Chromium: its package is installed, but brought no known binary");
  return installed;
}
