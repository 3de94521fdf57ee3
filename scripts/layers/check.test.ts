import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkLayers } from "./check.mjs";
import { findCycles } from "./cycles.mjs";
import { importsOf } from "./imports.mjs";
import { readWorkspace } from "./workspace-graph.mjs";

const BELOW = { safetensors: [], checkpoint: ["safetensors"], model: ["checkpoint"], "tiny-model": [], tokenizer: [] };

describe("checkLayers()", () => {
  let root = "";

  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), "shoal-layers-"));
    write("pnpm-workspace.yaml", "packages:\n  - packages/*\n  - shaders\n\nallowBuilds:\n  deno: true\n");
    addPackage("safetensors", {});
    write("packages/safetensors/src/mod.ts", 'export * from "./a.ts";\n');
    write("packages/safetensors/src/a.ts", "export const a = 1;\n");
    addPackage("checkpoint", { dependencies: { "@shoal/safetensors": "workspace:*" } });
    write("packages/checkpoint/src/mod.ts", 'import { a } from "@shoal/safetensors";\nexport const b = a;\n');
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function write(file: string, text: string): void {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), text);
  }

  function addPackage(name: string, more: object): void {
    write(`packages/${name}/package.json`, JSON.stringify({ name: `@shoal/${name}`, exports: { ".": "./src/mod.ts" }, ...more }));
  }

  const faults = (): string[] => checkLayers(readWorkspace(root), BELOW);

  it("accepts imports that point down and are declared", () => {
    expect(faults()).toEqual([]);
  });

  it("accepts what lies several layers below", () => {
    addPackage("model", { dependencies: { "@shoal/safetensors": "workspace:*" } });
    expect(faults()).toEqual([]);
  });

  it("rejects a declared dependency that points up", () => {
    addPackage("safetensors", { dependencies: { "@shoal/checkpoint": "workspace:*" } });
    expect(faults()).toEqual([
      'packages/safetensors/package.json: dependencies has "checkpoint", which is not below "safetensors": expected nothing',
    ]);
  });

  it("rejects an import that is not declared", () => {
    write("packages/checkpoint/src/c.ts", 'import type { T } from "@shoal/tokenizer";\n');
    expect(faults()).toEqual([
      'packages/checkpoint/src/c.ts: "@shoal/tokenizer" is not declared, expected it among the dependencies of packages/checkpoint/package.json',
    ]);
  });

  it("lets only tests use a development dependency", () => {
    addPackage("tiny-model", {});
    write("packages/tiny-model/src/mod.ts", "export const m = 1;\n");
    addPackage("checkpoint", {
      dependencies: { "@shoal/safetensors": "workspace:*" },
      devDependencies: { "@shoal/tiny-model": "workspace:*" },
    });
    write("packages/checkpoint/src/c.test.ts", 'import { m } from "@shoal/tiny-model";\n');
    write("packages/checkpoint/test/d.ts", 'import { m } from "@shoal/tiny-model";\n');
    expect(faults()).toEqual([]);
    write("packages/checkpoint/src/c.ts", 'import { m } from "@shoal/tiny-model";\n');
    expect(faults()).toHaveLength(1);
  });

  it("rejects a development dependency that points up", () => {
    addPackage("model", {});
    addPackage("safetensors", { devDependencies: { "@shoal/model": "workspace:*" } });
    expect(faults()).toHaveLength(1);
  });

  it("rejects a package without a place in the order", () => {
    addPackage("surprise", {});
    expect(faults()).toEqual([
      'packages/surprise: the package "surprise" has no place in the import order, expected an entry in scripts/layers/order.mjs',
    ]);
  });

  it("rejects a subpath that the package does not export", () => {
    write("packages/checkpoint/src/c.ts", 'import { a } from "@shoal/safetensors/src/a.ts";\n');
    expect(faults()).toEqual(['packages/checkpoint/src/c.ts: "@shoal/safetensors/src/a.ts" is not exported by its package']);
  });

  it("rejects a relative import into another package", () => {
    write("packages/checkpoint/src/c.ts", 'import { a } from "../../safetensors/src/a.ts";\n');
    expect(faults()).toEqual([
      'packages/checkpoint/src/c.ts: "../../safetensors/src/a.ts" reaches out of its package, expected an import by package name',
    ]);
  });

  it("finds a circle of files, through re-exports and dynamic imports", () => {
    write("packages/safetensors/src/a.ts", 'export { c } from "./c.ts";\n');
    write("packages/safetensors/src/c.ts", 'export const c = () => import("./a.ts");\n');
    expect(faults()).toEqual([
      "Circular import: packages/safetensors/src/a.ts -> packages/safetensors/src/c.ts -> packages/safetensors/src/a.ts",
    ]);
  });

  it("finds a circle across packages, through every condition of an export", () => {
    addPackage("safetensors", {
      exports: { ".": { browser: "./src/browser.ts", default: "./src/mod.ts" } },
      dependencies: { "@shoal/checkpoint": "workspace:*" },
    });
    write("packages/safetensors/src/browser.ts", 'import "@shoal/checkpoint";\n');
    expect(faults()).toContain(
      "Circular import: packages/checkpoint/src/mod.ts -> packages/safetensors/src/browser.ts -> packages/checkpoint/src/mod.ts",
    );
  });
});

describe("importsOf()", () => {
  it("finds every form of import, over several lines too", () => {
    const source = [
      'import "./effect.ts";',
      'import type { A } from "./type.ts";',
      "import {",
      "  b,",
      "  type C,",
      '} from "./lines.ts";',
      'export * from "./star.ts";',
      'export type { D } from "./exported.ts";',
      'const e = await import("./dynamic.ts");',
    ].join("\n");
    expect(importsOf(source).sort()).toEqual(["./dynamic.ts", "./effect.ts", "./exported.ts", "./lines.ts", "./star.ts", "./type.ts"]);
  });

  it("passes over comments, import.meta and exported strings", () => {
    const source = [
      '// import { a } from "./comment.ts";',
      '/* import("./block.ts") */',
      ' * import { b } from "./doc.ts";',
      "const url = import.meta.url;",
      'export const from = "./text.ts";',
    ].join("\n");
    expect(importsOf(source)).toEqual([]);
  });
});

describe("findCycles()", () => {
  it("reports one loop for each group of nodes that reach each other", () => {
    const graph = new Map([
      ["a", ["b"]],
      ["b", ["c", "a"]],
      ["c", ["a"]],
      ["d", ["d", "a"]],
      ["e", ["a", "d"]],
    ]);
    expect(findCycles(graph)).toEqual([
      ["a", "b", "a"],
      ["d", "d"],
    ]);
  });

  it("finds none in a graph that only converges", () => {
    expect(
      findCycles(
        new Map([
          ["a", ["b", "c"]],
          ["b", ["d"]],
          ["c", ["d"]],
        ]),
      ),
    ).toEqual([]);
  });
});
