import { describe, expect, it } from "vitest";
import { backportsSource, parseDeb822, parseOneLine } from "./apt-sources.mjs";

const DEB822 = {
  name: "/etc/apt/sources.list.d/debian.sources",
  text: [
    "Types: deb",
    "# a comment inside",
    "URIs: http://mirror.test/debian",
    "Suites: bookworm bookworm-updates",
    "Components: main",
    "Signed-By: /usr/share/keyrings/archive.gpg",
    "",
    "Types: deb",
    "URIs: http://mirror.test/security",
    "Suites: bookworm-security",
    "Components: main",
    "",
  ].join("\n"),
};

describe("backportsSource()", () => {
  it("derives the backports from a deb822 source, with its mirror and key", () => {
    expect(backportsSource([DEB822], "bookworm")).toBe(
      [
        "types: deb",
        "uris: http://mirror.test/debian",
        "suites: bookworm-backports",
        "components: main",
        "signed-by: /usr/share/keyrings/archive.gpg",
        "",
      ].join("\n"),
    );
  });

  it("derives the backports from a one-line source, with its options", () => {
    const text = [
      "# deb http://old.test/debian bookworm main",
      "deb-src http://mirror.test/debian bookworm main",
      "deb [arch=amd64,arm64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # note",
    ].join("\n");
    expect(backportsSource([{ name: "/etc/apt/sources.list", text }], "bookworm")).toBe(
      [
        "types: deb",
        "uris: http://mirror.test/debian",
        "suites: bookworm-backports",
        "components: main",
        "architectures: amd64 arm64",
        "signed-by: /k.gpg",
        "",
      ].join("\n"),
    );
  });

  it("prefers a backports source that the machine has already", () => {
    const own = { name: "/etc/apt/sources.list.d/b.list", text: "deb http://other.test/debian bookworm-backports main\n" };
    expect(backportsSource([DEB822, own], "bookworm")).toContain("http://other.test/debian");
  });

  it("keeps a key that stands in the source itself", () => {
    const text = "Types: deb\nURIs: http://m.test\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n -----END\n";
    expect(backportsSource([{ name: "x.sources", text }], "bookworm")).toContain("signed-by: \n -----BEGIN\n .\n abc\n -----END\n");
  });

  it("passes over sources that are disabled, of other releases or without main", () => {
    const files = [
      { name: "a.sources", text: "Enabled: no\nTypes: deb\nURIs: http://m.test\nSuites: bookworm\nComponents: main\n" },
      { name: "b.list", text: "deb http://m.test trixie main\ndeb http://m.test bookworm contrib\n" },
    ];
    expect(backportsSource(files, "bookworm")).toBeUndefined();
  });
});

describe("parseDeb822()", () => {
  it("separates paragraphs and joins continuation lines", () => {
    expect(parseDeb822("A: 1\nB: 2\n more\n\n\nA: 3\n").map((stanza) => [...stanza])).toEqual([
      [
        ["a", "1"],
        ["b", "2\n more"],
      ],
      [["a", "3"]],
    ]);
  });
});

describe("parseOneLine()", () => {
  it("reads no line that is not a binary source", () => {
    expect(parseOneLine("\n# deb x y z\ndeb-src x y z\n")).toEqual([]);
  });
});
