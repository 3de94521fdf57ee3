import { expect, test } from "vitest";
import { listFiles, sourceOf, storageId } from "./sources.ts";

const SHA = "ab".repeat(32);

/** A server of texts by path; HEAD tells lengths, unknown paths are 404. */
function server(files: Readonly<Record<string, string>>, answers: { readonly head?: boolean } = {}) {
  const asked: string[] = [];
  const fetch = (input: Request | string | URL, init?: RequestInit): Promise<Response> => {
    const { method, url, headers } = new Request(input, init);
    const { pathname } = new URL(url);
    asked.push(`${method} ${pathname}`);
    const text = files[pathname];
    if (text === undefined) return Promise.resolve(new Response("", { status: 404 }));
    if (method === "HEAD")
      return Promise.resolve(
        answers.head === false
          ? new Response(null, { status: 405 })
          : new Response(null, { headers: { "content-length": `${text.length}` } }),
      );
    if (headers.has("range"))
      return Promise.resolve(new Response(text.slice(0, 1), { status: 206, headers: { "content-range": `bytes 0-0/${text.length}` } }));
    return Promise.resolve(new Response(text));
  };
  return { asked, fetch };
}

const FOLDER = { kind: "folder", url: "https://models.test/tiny" } as const;
const INDEX = JSON.stringify({ weight_map: { a: "one.safetensors", b: "two.safetensors", c: "one.safetensors" } });
const BARE = {
  "/tiny/config.json": "{}",
  "/tiny/tokenizer.json": "{...}",
  "/tiny/model.safetensors.index.json": INDEX,
  "/tiny/one.safetensors": "1234567",
  "/tiny/two.safetensors": "12",
};

test("a folder's manifest is its list of files", async () => {
  const { fetch } = server({ "/tiny/manifest.json": JSON.stringify({ "config.json": { bytes: 2, sha256: SHA } }) });
  const { base, files, name } = await listFiles(FOLDER, { fetch });
  expect([base, name, [...files]]).toEqual(["https://models.test/tiny/", "tiny", [["config.json", { bytes: 2, sha256: SHA }]]]);
});

test.each([true, false])("a folder without a manifest is asked for its files, whether it answers HEAD (%s) or not", async (head) => {
  const { fetch } = server(BARE, { head });
  const { files } = await listFiles(FOLDER, { fetch });
  const sizes = Object.fromEntries([...files].map(([name, { bytes }]) => [name, bytes]));
  expect(sizes).toEqual({
    "config.json": 2,
    "tokenizer.json": 5,
    "model.safetensors.index.json": INDEX.length,
    "one.safetensors": 7,
    "two.safetensors": 2,
  });
});

test.each([
  ["nothing there", {}, "no 'config.json'"],
  ["no weights", { "/tiny/config.json": "{}" }, "no weights"],
  ["a shard that is missing", { ...BARE, "/tiny/two.safetensors": undefined }, "'two.safetensors' of its index is missing"],
  ["an index that names other places", { ...BARE, "/tiny/model.safetensors.index.json": '{"weight_map":{"a":"../x"}}' }, "../x"],
  ["a manifest that is none", { "/tiny/manifest.json": "[]" }, "an object of files"],
])("listFiles refuses %s", async (_, files, message) => {
  const { fetch } = server(files as Record<string, string>);
  await expect(listFiles(FOLDER, { fetch })).rejects.toThrow(message);
});

test("what a person types is an address, a hub's repository or its page", () => {
  expect(sourceOf(" https://models.test/a/ ")).toEqual({ kind: "folder", url: "https://models.test/a/" });
  expect(sourceOf("org/name")).toEqual({ kind: "hub", repo: "org/name" });
  expect(sourceOf("https://huggingface.co/org/name/tree/main")).toEqual({ kind: "hub", repo: "org/name" });
  expect(() => sourceOf("file:///etc")).toThrow("expected an address");
  expect(() => sourceOf("name")).toThrow("organization/name");
});

test("a model is kept under the same name however its address is written, and none is a path", () => {
  expect(storageId({ kind: "folder", url: "https://models.test/a?token=1" })).toBe(
    storageId({ kind: "folder", url: "https://models.test/a/#x" }),
  );
  expect(storageId({ kind: "folder", url: "https://models.test/a/b" })).not.toMatch(/[/\\:*?"<>|]/);
});
