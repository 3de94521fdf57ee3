/**
 * Keeps the page itself for visits without network. The model's files are not its business: they lie in the origin private file system. The build fills in
 * the list of files and the version.
 */
const files = "FILES";
const cacheName = "page-VERSION";

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(cacheName)
      .then((cache) => cache.addAll(files))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const drop = (names) => Promise.all(names.filter((name) => name !== cacheName).map((name) => caches.delete(name)));
  event.waitUntil(
    caches
      .keys()
      .then(drop)
      .then(() => self.clients.claim()),
  );
});

/** The page from the network where there is one, so that a new version is seen at once; files with a digest in their name from the cache. */
async function answer(request) {
  const cache = await caches.open(cacheName);
  if (request.mode !== "navigate") return (await cache.match(request)) ?? fetch(request);
  try {
    return await fetch(request);
  } catch {
    return (await cache.match("./")) ?? Response.error();
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin || url.pathname.includes("/model/")) return;
  event.respondWith(answer(request));
});
