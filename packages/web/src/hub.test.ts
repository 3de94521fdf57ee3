import { createHash } from "node:crypto";
import { type IncomingMessage, type RequestListener, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { downloadModel } from "./download.ts";
import { listingText, parseListing } from "./manifest.ts";
import { listFiles } from "./sources.ts";
import type { ModelStorage } from "./storage.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const SHA = "ab".repeat(32);
const HUB = "https://hub.test";
const API = "/api/models/org/name";
const SOURCE = { kind: "hub", repo: "org/name", endpoint: HUB } as const;
const CONFIG = { type: "file", oid: COMMIT, size: 9, path: "config.json" };
const LARGE = {
  type: "file",
  oid: COMMIT,
  size: 99,
  lfs: { oid: SHA, size: 99, pointerSize: 133 },
  xetHash: SHA,
  path: "model.safetensors",
};

interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
}

/** As the hub answers: by path and query, with its codes of errors. */
function hub(answers: Readonly<Record<string, Answer>>): { readonly asked: string[]; readonly fetch: typeof fetch } {
  const asked: string[] = [];
  const answer = (input: Request | string | URL, init?: RequestInit): Promise<Response> => {
    const { origin, pathname, search } = new URL(new Request(input, init).url);
    asked.push(pathname + search);
    const missing: Answer = { status: 401, headers: { "x-error-code": "RepoNotFound" }, json: { error: "Invalid username or password." } };
    const { status = 200, headers = {}, json } = (origin === HUB ? answers[pathname + search] : undefined) ?? missing;
    return Promise.resolve(Response.json(json ?? {}, { status, headers }));
  };
  return { asked, fetch: answer };
}

const REVISION = { [`${API}/revision/main`]: { json: { id: "org/name", sha: COMMIT, gated: false, private: false } } };

test("a hub's repository is pinned to a commit, with the digests that the hub knows", async () => {
  const json = [
    { type: "directory", oid: COMMIT, size: 0, path: "onnx" },
    { type: "file", oid: COMMIT, size: 99, path: "pytorch_model.bin" },
    { type: "file", oid: COMMIT, size: 1, path: "../evil.safetensors" },
    CONFIG,
    LARGE,
  ];
  const { fetch } = hub({ ...REVISION, [`${API}/tree/${COMMIT}`]: { json } });
  const listing = await listFiles(SOURCE, { fetch });
  expect(listing.base).toBe(`${HUB}/org/name/resolve/${COMMIT}/`);
  expect([...listing.files]).toEqual([
    ["config.json", { bytes: 9, sha256: null, gitSha1: COMMIT }],
    ["model.safetensors", { bytes: 99, sha256: SHA }],
  ]);
  expect(parseListing(listingText(listing))).toEqual(listing);
});

test("a list of files in pages is followed to its end, on the hub alone, and not for ever", async () => {
  const tree = `${API}/tree/${COMMIT}`;
  const link = (address: string) => ({ link: `<${address}>; rel="next"` });
  const pages = { [tree]: { json: [CONFIG], headers: link(`${HUB}${tree}?cursor=abc%3D`) }, [`${tree}?cursor=abc%3D`]: { json: [LARGE] } };
  const { files } = await listFiles(SOURCE, { fetch: hub({ ...REVISION, ...pages }).fetch });
  expect([...files.keys()]).toEqual(["config.json", "model.safetensors"]);
  const elsewhere = hub({ ...REVISION, [tree]: { json: [CONFIG, LARGE], headers: link("https://elsewhere.test/more") } });
  await listFiles(SOURCE, { fetch: elsewhere.fetch });
  expect(elsewhere.asked).toEqual([`${API}/revision/main`, tree]);
  const endless = hub({ ...REVISION, [tree]: { json: [CONFIG, LARGE], headers: link(tree) } });
  await expect(listFiles(SOURCE, { fetch: endless.fetch })).rejects.toThrow("no end after 16 pages");
});

test.each<[string, Readonly<Record<string, Answer>>, string, string]>([
  ["that is not there, or private", {}, "SourceError", "no such public model (it answered 401)"],
  ["that is gated", { [`${API}/revision/main`]: { json: { sha: COMMIT, gated: "manual" } } }, "SourceError", "agreed to its terms"],
  [
    "whose list is gated",
    { ...REVISION, [`${API}/tree/${COMMIT}`]: { status: 403, headers: { "x-error-code": "GatedRepo" } } },
    "SourceError",
    "download it yourself and choose its folder",
  ],
  [
    "without that revision",
    { [`${API}/revision/main`]: { status: 404, headers: { "x-error-code": "RevisionNotFound" } } },
    "SourceError",
    "has no revision 'main'",
  ],
  [
    "while the hub takes no more requests",
    { [`${API}/revision/main`]: { status: 429, headers: { ratelimit: '"api";r=0;t=55' } } },
    "DownloadError",
    "again in 55 seconds",
  ],
  ["while the hub is down", { [`${API}/revision/main`]: { status: 503 } }, "TypeError", "answered 503"],
])("a repository %s is refused, saying so", async (_, answers, name, message) => {
  const refused = listFiles(SOURCE, { fetch: hub(answers).fetch });
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toMatchObject({ name });
});

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

test("files are fetched where the hub sends them on to, and gone on with there when a connection breaks", async () => {
  const content = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 251));
  const sha256 = createHash("sha256").update(content).digest("hex");
  const rangesOf = ({ headers }: IncomingMessage): number => Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  const starts: number[] = [];
  const cdn = await serve((request, response) => {
    const start = rangesOf(request);
    starts.push(start);
    const range = start > 0 && { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` };
    response.writeHead(range ? 206 : 200, { "content-length": content.length - start, ...range });
    // The first breaks.
    if (starts.length === 1) response.write(content.subarray(0, 2000), () => setTimeout(() => response.destroy(), 20));
    else response.end(content.subarray(start));
  });
  const base = await serve((_, response) => {
    const linked = { "x-linked-size": content.length, "x-linked-etag": `"${sha256}"`, "x-repo-commit": COMMIT };
    response.writeHead(302, { location: `${cdn}xet-bridge/signed?Expires=1`, ...linked }).end();
  });
  const [file] = await downloadModel({
    base: new URL(`org/name/resolve/${COMMIT}/`, base),
    manifest: new Map([["model.safetensors", { bytes: content.length, sha256 }]]),
    storage: oneFile(),
    retryDelaysMs: [0, 0],
  });
  expect(Buffer.from((await file?.arrayBuffer()) ?? new ArrayBuffer())).toEqual(content);
  expect(starts[0]).toBe(0);
  expect(starts[1]).toBeGreaterThan(0);
  expect(starts).toHaveLength(2);
});

function oneFile(): ModelStorage {
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  return {
    read: (name) => Promise.resolve(bytes ? new File([bytes], name) : null),
    names: () => Promise.resolve([]),
    remove: () => Promise.resolve(),
    open: () =>
      Promise.resolve({
        get size() {
          return bytes?.byteLength ?? 0;
        },
        append: (more) => void (bytes = Uint8Array.from([...(bytes ?? []), ...more])),
        clear: () => void (bytes = new Uint8Array()),
        close() {},
      }),
  };
}
