/** Text of grammars put together: rules of several grammars in one, under names that do not meet. */

/** One grammar's rules, and the name of the rule to begin with. */
export interface Rules {
  readonly text: string;
  readonly root: string;
}

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;

/** Puts `prefix` before every rule's name. Takes text as xgrammar prints it: names stand outside of strings and classes. */
export function renameRules(text: string, prefix: string): string {
  let out = "";
  for (let i = 0; i < text.length;) {
    const character = text.charAt(i);
    if (character === '"' || character === "[") {
      const end = closing(text, i, character === '"' ? '"' : "]");
      out += text.slice(i, end);
      i = end;
      continue;
    }
    NAME.lastIndex = i;
    const name = NAME.exec(text)?.[0];
    out += name === undefined ? character : prefix + name;
    i += name?.length ?? 1;
  }
  return out;
}

/** After the string or class that begins at `start`. */
function closing(text: string, start: number, close: string): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text.charAt(i) === "\\") i++;
    else if (text.charAt(i) === close) return i + 1;
  }
  return text.length;
}

/** The rule that a printed grammar begins with: of structural tags the last one, of all others `root`. */
export function lastRule(text: string): string {
  return [...text.matchAll(/^([A-Za-z_][A-Za-z0-9_]*) ::=/gm)].at(-1)?.[1] ?? "root";
}

export function literal(text: string): string {
  const escaped = Array.from(text.toWellFormed(), (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (character === '"' || character === "\\") return `\\${character}`;
    return code < 0x20 || code === 0x7f ? `\\x${code.toString(16).padStart(2, "0")}` : character;
  });
  return `"${escaped.join("")}"`;
}
