/** Code to coloured pieces, by highlight.js through lowlight, which gives a tree where highlight.js alone gives HTML. */
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import lua from "highlight.js/lib/languages/lua";
import markdown from "highlight.js/lib/languages/markdown";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import type { HighlightNode } from "./nodes.ts";

/** Longer code is shown plain. */
export const MAX_HIGHLIGHTED = 64 * 1024;

const LANGUAGES = {
  bash, c, cpp, csharp, css, diff, dockerfile, go, ini, java, javascript, json, kotlin, lua, markdown, php, python, ruby, rust, sql, swift, typescript, xml, yaml,
}; // prettier-ignore
/** Names that models use and highlight.js does not know. */
const ALIASES = { bash: ["shell", "console", "shellscript"], typescript: ["tsx"], c: ["wgsl", "glsl"], javascript: ["node"] };

export type Highlight = (language: string, code: string) => readonly HighlightNode[] | null;

/** Null where the language is not known. */
export function createHighlight(): Highlight {
  const lowlight = createLowlight(LANGUAGES);
  lowlight.registerAlias(ALIASES);
  return (language, code) => {
    const name = language.toLowerCase();
    if (code.length > MAX_HIGHLIGHTED || !lowlight.registered(name)) return null;
    return piecesOf(lowlight.highlight(name, code).children);
  };
}

type Hast = ReturnType<ReturnType<typeof createLowlight>["highlight"]>["children"][number];

function piecesOf(nodes: readonly Hast[]): readonly HighlightNode[] {
  return nodes.flatMap((node): HighlightNode[] => {
    if (node.type === "text") return [node.value];
    if (node.type !== "element") return [];
    const names = node.properties["className"];
    const scope = Array.isArray(names) ? String(names[0]).replace(/^hljs-/, "") : "";
    return [{ scope: /^[\w-]+$/.test(scope) ? scope : "", children: piecesOf(node.children) }];
  });
}
