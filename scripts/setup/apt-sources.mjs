/**
 * Reads a machine's apt sources, in both of their notations, and derives from them the source of its release's backports: the same
 * mirror, key and options, another suite. Pure functions over the files' texts.
 */

/** @typedef {Map<string, string>} Stanza fields of a deb822 paragraph, names in lower case; continuation lines keep their line breaks */

/**
 * @param {string} text a `.sources` file
 * @returns {Stanza[]}
 */
export function parseDeb822(text) {
  /** @type {Stanza[]} */
  const stanzas = [];
  for (const paragraph of text.replaceAll(/^#.*\n?/gm, "").split(/\n[ \t]*\n/)) {
    /** @type {Stanza} */
    const stanza = new Map();
    let field = "";
    for (const line of paragraph.split("\n")) {
      const start = /^([A-Za-z][\w-]*):[ \t]*(.*)$/.exec(line);
      if (start) {
        field = (start[1] ?? "").toLowerCase();
        stanza.set(field, (start[2] ?? "").trim());
      } else if (/^[ \t]/.test(line) && field !== "") {
        stanza.set(field, `${stanza.get(field) ?? ""}\n${line.trimEnd()}`);
      }
    }
    if (stanza.size > 0) stanzas.push(stanza);
  }
  return stanzas;
}

/** Options of the one-line notation and the deb822 fields that mean the same. */
const OPTION_FIELDS = new Map([
  ["signed-by", "signed-by"],
  ["trusted", "trusted"],
  ["arch", "architectures"],
  ["check-valid-until", "check-valid-until"],
  ["allow-insecure", "allow-insecure"],
]);

/**
 * @param {string} text a `.list` file
 * @returns {Stanza[]}
 */
export function parseOneLine(text) {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*(deb)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!match) return [];
    const [, type = "", options = "", uri = "", suite = "", components = ""] = match;
    /** @type {Stanza} */
    const stanza = new Map([
      ["types", type],
      ["uris", uri],
      ["suites", suite],
      ["components", components.trim()],
    ]);
    for (const option of options.split(/\s+/)) {
      const [name = "", value = ""] = option.split("=");
      const field = OPTION_FIELDS.get(name.toLowerCase());
      if (field !== undefined) stanza.set(field, value.replaceAll(",", " "));
    }
    return [stanza];
  });
}

/**
 * @param {{ name: string, text: string }[]} files the machine's source files
 * @param {string} codename such as "bookworm"
 * @returns {string | undefined} a deb822 source file for `<codename>-backports`, undefined if no source has that release's main part
 */
export function backportsSource(files, codename) {
  const stanzas = files.flatMap((file) => (file.name.endsWith(".sources") ? parseDeb822(file.text) : parseOneLine(file.text)));
  const words = (/** @type {Stanza} */ stanza, /** @type {string} */ field) => (stanza.get(field) ?? "").split(/\s+/);
  const usable = stanzas.filter(
    (stanza) =>
      words(stanza, "types").includes("deb") &&
      words(stanza, "components").includes("main") &&
      !/^(no|false|0)$/i.test(stanza.get("enabled") ?? "yes"),
  );
  const suite = `${codename}-backports`;
  const source =
    usable.find((stanza) => words(stanza, "suites").includes(suite)) ?? usable.find((stanza) => words(stanza, "suites").includes(codename));
  if (source === undefined) return undefined;
  const fields = new Map([...source, ["types", "deb"], ["suites", suite], ["components", "main"]]);
  return [...fields].map(([name, value]) => `${name}: ${value}\n`).join("");
}
