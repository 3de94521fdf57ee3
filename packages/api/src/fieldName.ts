/** Places in a body, as errors name them. */

/** Of a name that clients made up. */
const MOST_LENGTH = 80;

/** `messages[0].content`; names that would not read as such stand as JSON: `metadata["a b"]`. The body itself is `body`. */
export function fieldName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const key of path) {
    if (typeof key === "number") name += `[${key}]`;
    else {
      const word = String(key).slice(0, MOST_LENGTH);
      if (/^[\w$-]+$/.test(word)) name += `${name === "" ? "" : "."}${word}`;
      else name += `[${JSON.stringify(word)}]`;
    }
  }
  return name === "" ? "body" : name;
}
