/**
 * One setup at a time in a checkout. The lock is a file that names its holder; a holder that no longer runs has lost it, so an interrupted
 * setup never blocks the next one.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import path from "node:path";

/**
 * A process id alone is not enough: ids start again in every container, where an unrelated process may have the holder's. Its start time
 * tells them apart where the system shows it.
 * @param {number} pid
 * @returns {string | undefined} undefined when no such process runs
 */
function identityOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name, in brackets, may hold spaces: count fields after it. The start time is field 22.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return `${pid} ${fields[19] ?? ""}`;
  } catch {
    try {
      process.kill(pid, 0);
      return `${pid} `;
    } catch (error) {
      return error instanceof Error && "code" in error && error.code === "EPERM" ? `${pid} ` : undefined;
    }
  }
}

/**
 * @param {string} file
 * @returns {{ text: string, pid: number } | undefined}
 */
function readHolder(file) {
  try {
    const text = readFileSync(file, "utf8");
    return { text, pid: Number.parseInt(text, 10) };
  } catch {
    return undefined;
  }
}

/**
 * Takes the lock, waiting while a living process holds it, runs `work`, and lets it go.
 * @template T
 * @param {string} file
 * @param {() => Promise<T>} work
 * @param {{ onWait?: (pid: number) => void, pollMs?: number }} [options]
 * @returns {Promise<T>}
 */
export async function withLock(file, work, { onWait = () => {}, pollMs = 200 } = {}) {
  mkdirSync(path.dirname(file), { recursive: true });
  const mine = `${file}.${process.pid}`;
  const text = identityOf(process.pid) ?? `${process.pid} `;
  // Written apart and linked into place: nobody ever reads a lock that names no holder yet.
  writeFileSync(mine, text);
  let waited = false;
  try {
    while (!tryLink(mine, file)) {
      const holder = readHolder(file);
      if (holder === undefined) continue;
      if (Number.isInteger(holder.pid) && holder.pid > 0 && identityOf(holder.pid) === holder.text) {
        if (!waited) onWait(holder.pid);
        waited = true;
        await sleep(pollMs);
      } else {
        removeStale(file, holder.text);
      }
    }
  } finally {
    rmSync(mine, { force: true });
  }
  const release = () => {
    if (readHolder(file)?.text === text) rmSync(file, { force: true });
  };
  process.on("exit", release);
  try {
    return await work();
  } finally {
    process.off("exit", release);
    release();
  }
}

/**
 * @param {string} from
 * @param {string} to
 */
function tryLink(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Two waiting processes may both see the same stale lock; the slower one must not remove the lock that the faster one has taken since.
 * @param {string} file
 * @param {string} staleText
 */
function removeStale(file, staleText) {
  const aside = `${file}.stale.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch {
    return;
  }
  if (readHolder(aside)?.text !== staleText) tryLink(aside, file);
  rmSync(aside, { force: true });
}
