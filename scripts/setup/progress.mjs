/**
 * Progress of setup on stderr, one line a step: "Setting up: dependencies ... 12 s". On a terminal the seconds count while it runs.
 * stdout belongs to the command that runs after setup.
 */

/**
 * @template T
 * @param {string} name
 * @param {(remark: (text: string) => void) => Promise<T>} work what it remarks is printed once its line is complete
 * @returns {Promise<T>}
 */
export async function step(name, work) {
  const start = Date.now();
  const line = `Setting up: ${name} ...`;
  const live = process.stderr.isTTY;
  const seconds = () => `${Math.round((Date.now() - start) / 1000)} s`;
  const end = (/** @type {string} */ text) => process.stderr.write(live ? `\r${line} ${text}\n` : ` ${text}\n`);
  /** @type {string[]} */
  const remarks = [];
  process.stderr.write(line);
  const timer = live ? setInterval(() => process.stderr.write(`\r${line} ${seconds()}`), 1000) : undefined;
  try {
    const result = await work((text) => remarks.push(text));
    end(seconds());
    return result;
  } catch (error) {
    end(`failed after ${seconds()}`);
    throw error;
  } finally {
    clearInterval(timer);
    remarks.forEach(note);
  }
}

/** @param {string} text */
export function note(text) {
  process.stderr.write(`${text}\n`);
}
