/** Stands in for Hugging Face's hub: what its API (https://huggingface.co/docs/hub/api) says of one repository, whose files another server has, and how it refuses a gated one. */
import { readFile } from "node:fs/promises";
import type { Route } from "playwright/test";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
/** Pages of all origins may read its answers, and of their headers these. */
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers":
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash",
};

/**
 * @param manifest of the repository's files
 * @param files where they are
 */
export async function answerAsHub(route: Route, manifest: string, files: string): Promise<void> {
  const { pathname } = new URL(route.request().url());
  const json = (value: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Promise<void> =>
    route.fulfill({ status, headers: { ...CORS, ...headers, "content-type": "application/json" }, body: JSON.stringify(value) });
  if (pathname === "/api/models/org/name/revision/main") return json({ id: "org/name", sha: COMMIT, private: false, gated: false });
  if (pathname === `/api/models/org/name/tree/${COMMIT}`) {
    const listed = JSON.parse(await readFile(manifest, "utf8")) as Record<string, { readonly bytes: number; readonly sha256: string }>;
    const entries = Object.entries(listed).map(([path, { bytes: size, sha256: oid }]) => ({
      type: "file",
      oid: COMMIT,
      size,
      ...(path.endsWith(".safetensors") && { lfs: { oid, size, pointerSize: 133 }, xetHash: oid }),
      path,
    }));
    return json(entries);
  }
  const [, name] = new RegExp(`^/org/name/resolve/${COMMIT}/(.+)$`).exec(pathname) ?? [];
  if (name !== undefined) {
    const response = await route.fetch({ url: files + name });
    return route.fulfill({ response, headers: { ...response.headers(), ...CORS, "x-repo-commit": COMMIT } });
  }
  if (pathname.startsWith("/api/models/org/gated/"))
    return json({ error: "Access to model org/gated is restricted." }, 401, { "x-error-code": "GatedRepo" });
  return json({ error: "Invalid username or password." }, 401, { "x-error-code": "RepoNotFound" });
}
