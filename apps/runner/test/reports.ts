/** Checks of what commands print as JSON. */

/** Each path leads to a value of its type; numbers are finite and not below 0. */
export function checkTypes(value: unknown, types: Readonly<Record<string, string>>, what: string): void {
  for (const [path, type] of Object.entries(types)) {
    const found = at(value, path);
    check(typeof found === type, `${path} of ${what} is ${JSON.stringify(found)}, expected a ${type}`);
    const isSound = typeof found !== "number" || (Number.isFinite(found) && found >= 0);
    check(isSound, `${path} of ${what} is ${JSON.stringify(found)}, expected 0 or more`);
  }
}

/** What lies at "a.b.c"; undefined where nothing does. */
export function at(value: unknown, path: string): unknown {
  let current = value;
  for (const name of path.split(".")) current = typeof current === "object" && current !== null ? Reflect.get(current, name) : undefined;
  return current;
}

export function check(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
