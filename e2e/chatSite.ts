/** The chat page as it is built, served; and a backend for it that answers at once, so that what is tested is the page. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { AxeResults } from "axe-core";
import { type Page, expect } from "playwright/test";
import { build } from "vite";
import { StaticServer } from "./staticServer.ts";

export interface ChatSite {
  readonly folder: string;
  readonly server: StaticServer;
  close(): Promise<void>;
}

export async function serveChat(): Promise<ChatSite> {
  const folder = await mkdtemp(path.join(tmpdir(), "shoal-page-"));
  const configFile = fileURLToPath(new URL("../apps/chat/vite.config.ts", import.meta.url));
  await build({ configFile, logLevel: "error", build: { outDir: folder, emptyOutDir: true } });
  const server = new StaticServer(folder);
  await server.start();
  const close = async (): Promise<void> => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { folder, server, close };
}

/** A part of an answer: text, or a `delta` of OpenAI's. */
export type Piece = string | { readonly reasoning_content?: string; readonly tool_calls?: readonly unknown[] };

export interface FakeOptions {
  /** By the last message; any other is repeated. */
  readonly answers?: Readonly<Record<string, readonly Piece[]>>;
  /** Between two pieces. */
  readonly delayMs?: number;
  /** After so many pieces of an answer it waits for `release`, or for its end. */
  readonly holdAt?: number;
  /** Messages after whose first piece the backend fails, with this text. */
  readonly failing?: Readonly<Record<string, string>>;
}

interface FakeScope {
  shoalBackend?: unknown;
  requests?: unknown[];
  release?: () => void;
}

/** From the next visit on the page is answered by this. `globalThis.requests` lists what it asked. */
export async function answerWith(page: Page, options: FakeOptions): Promise<void> {
  await page.addInitScript(installFake, options);
}

/** Runs in the page. */
function installFake({ answers = {}, delayMs = 0, holdAt = Infinity, failing = {} }: FakeOptions): void {
  const scope = globalThis as unknown as FakeScope;
  const requests: unknown[] = [];
  scope.requests = requests;
  interface Asked {
    readonly messages: readonly { readonly content: string }[];
  }
  async function* create(request: Asked, { signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator {
    requests.push(JSON.parse(JSON.stringify(request)));
    const asked = request.messages.at(-1)?.content ?? "";
    const pieces = answers[asked] ?? [`You said: ${asked}`];
    let tokens = 0;
    for (const piece of pieces) {
      if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
      signal?.throwIfAborted();
      yield { choices: [{ index: 0, delta: typeof piece === "string" ? { content: piece } : piece, finish_reason: null }] };
      tokens++;
      if (tokens === holdAt) {
        await new Promise<void>((resolve) => {
          scope.release = resolve;
          signal?.addEventListener("abort", () => resolve());
        });
      }
      if (asked in failing) throw new Error(failing[asked]);
    }
    const calls = pieces.some((piece) => typeof piece === "object" && "tool_calls" in piece);
    yield { choices: [{ index: 0, delta: {}, finish_reason: calls ? "tool_calls" : "stop" }] };
    yield { choices: [], usage: { completion_tokens: tokens }, timings: { first_token_ms: 250, decode_ms: tokens * 40 } };
  }
  scope.shoalBackend = { chat: { completions: { create } } };
}

/** Lets an answer go on that is held. */
export async function release(page: Page): Promise<void> {
  await page.evaluate(() => (globalThis as unknown as FakeScope).release?.());
}

export async function requestsOf(
  page: Page,
): Promise<readonly { readonly messages: readonly unknown[]; readonly [field: string]: unknown }[]> {
  return page.evaluate(() => (globalThis as unknown as { readonly requests: never[] }).requests);
}

/**
 * What elements say from now on, also what they say for a moment only.
 * @returns gives all of it so far
 */
export async function heardFrom(page: Page, selector: string): Promise<() => readonly string[]> {
  const heard: string[] = [];
  const name = `heard${Math.random().toString(36).slice(2)}`;
  await page.exposeFunction(name, (text: string) => void heard.push(text));
  await page.evaluate(
    ([wanted, tell]) => {
      const scope = globalThis as unknown as Record<string, (text: string) => void>;
      const of = ({ target }: MutationRecord) => (target instanceof Element ? target : target.parentElement)?.closest(wanted);
      new MutationObserver((records) => {
        for (const element of new Set(records.map(of))) if (element?.textContent) scope[tell]?.(element.textContent);
      }).observe(document.body, { childList: true, characterData: true, subtree: true });
    },
    [selector, name] as const,
  );
  return () => heard;
}

/** Returns once what was changed is in the browser's storage: transactions on the same store end in order. */
export async function isKept(page: Page): Promise<void> {
  await page.evaluate(async () => {
    const opened = indexedDB.open("shoal-conversations");
    await new Promise((resolve) => opened.addEventListener("success", resolve));
    const transaction = opened.result.transaction("conversations", "readwrite");
    transaction.objectStore("conversations").count();
    await new Promise((resolve) => transaction.addEventListener("complete", resolve));
    opened.result.close();
  });
}

/** What keeps people from using the page, as axe finds it. */
export async function expectAccessible(page: Page): Promise<void> {
  await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core"), "utf8"));
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
}

/** Errors of the page, and what its security policy refused, as they come. */
export function problemsOf(page: Page): readonly string[] {
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted/i.test(message.text())) problems.push(message.text());
  });
  return problems;
}
