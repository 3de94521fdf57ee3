/**
 * The engine's side of grammars: sessions that survive the thread that keeps them. A call that takes too long costs its session, and only that: the thread is ended, and the
 * others' sessions are begun anew in another, from the tokens that they have chosen. A grammar that did so is refused from then on.
 */
import { EngineError } from "../errors.ts";
import type { OutputGrammar } from "./grammar.ts";
import type { GrammarPort, GrammarReply } from "./protocol.ts";
import type { TokenVocabulary } from "./vocabulary.ts";

export interface GrammarClientOptions {
  /** Makes another place for grammars. */
  readonly spawn: () => GrammarPort;
  readonly vocabulary: TokenVocabulary;
  /** For one call: compiling a grammar, or one token's mask. Milliseconds. */
  readonly timeoutMs?: number;
}

/** A schema of everyday size takes 1 to 2 s for a vocabulary of 129,280 tokens on a slow machine, and many times that where its processors are busy; others' masks wait behind it. */
const TIMEOUT_MS = 30_000;
/** For a thread to start and read the vocabulary. */
const START_MS = 60_000;
/** Grammars remembered as too slow. */
const MOST_REFUSED = 64;

export interface GrammarSession {
  /** Asks for the mask of the token after these, which follow those of earlier calls. What was asked before and is not there yet does not come any more. */
  accept(ids: readonly number[]): void;
  /** Asks for the masks after each of these tokens, if they should follow: up to the first that cannot, or that ends the text. */
  lookAhead(ids: readonly number[]): void;
  close(): void;
}

export interface SessionHearer {
  readonly onMask: (mask: Uint32Array<ArrayBuffer>) => void;
  readonly onAhead: (masks: readonly Uint32Array<ArrayBuffer>[]) => void;
  readonly onError: (error: Error) => void;
}

interface Session extends SessionHearer {
  readonly number: number;
  readonly grammar: OutputGrammar;
  readonly ids: number[];
  /** Whether this thread has it as far as `ids` says. */
  known: boolean;
  waiting: boolean;
  /** What is being looked ahead at. */
  ahead: readonly number[] | undefined;
}

interface Call {
  /** Undefined: nobody's. */
  readonly session: Session | undefined;
  /** Tokens of the session then: with more of them the answer is of no use. */
  readonly length: number;
}

export class GrammarClient {
  readonly #options: GrammarClientOptions;
  readonly #sessions = new Map<number, Session>();
  readonly #refused = new Set<string>();
  #port: GrammarPort | undefined;
  /** Those that are not answered yet, the first first. */
  #calls: Call[] = [];
  #starting = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #next = 0;

  constructor(options: GrammarClientOptions) {
    this.#options = options;
  }

  /** @throws EngineError for a grammar that took too long before */
  open(grammar: OutputGrammar, hearer: SessionHearer): GrammarSession {
    if (this.#refused.has(JSON.stringify(grammar))) throw this.#tooSlow();
    const session: Session = { number: this.#next++, grammar, ids: [], ...hearer, known: false, waiting: false, ahead: undefined };
    this.#sessions.set(session.number, session);
    return {
      accept: (ids) => {
        if (!this.#sessions.has(session.number)) return;
        session.ids.push(...ids);
        session.ahead = undefined;
        this.#ask(session, ids);
      },
      lookAhead: (ids) => {
        if (this.#sessions.has(session.number)) this.#askAhead(session, ids);
      },
      close: () => {
        if (!this.#sessions.delete(session.number)) return;
        if (session.known) this.#send(undefined, { kind: "close", session: session.number });
      },
    };
  }

  /** Ends the thread. Sessions hear nothing any more. */
  destroy(): void {
    this.#sessions.clear();
    this.#drop();
  }

  #ask(session: Session, ids: readonly number[]): void {
    const { number, grammar } = session;
    session.waiting = true;
    if (session.known) this.#send(session, { kind: "accept", session: number, ids });
    else this.#send(session, { kind: "open", session: number, grammar, ids: session.ids });
    session.known = true;
  }

  #askAhead(session: Session, ids: readonly number[]): void {
    if (!session.known) this.#ask(session, []);
    session.ahead = ids;
    this.#send(session, { kind: "ahead", session: session.number, ids });
  }

  #send(session: Session | undefined, call: Parameters<GrammarPort["send"]>[0]): void {
    const port = (this.#port ??= this.#start());
    this.#calls.push({ session, length: session?.ids.length ?? 0 });
    port.send(call);
    if (this.#calls.length === 1) this.#watch();
  }

  #start(): GrammarPort {
    const port = this.#options.spawn();
    const current = (use: () => void): void => {
      if (this.#port === port) use();
    };
    port.hear(
      (reply) => current(() => this.#hear(reply)),
      (reason) =>
        current(() => this.#lose(undefined, new EngineError("closed", `Cannot go on with a grammar: its thread died, ${String(reason)}`))),
    );
    this.#starting = true;
    this.#calls.push({ session: undefined, length: 0 });
    port.send({ kind: "vocabulary", vocabulary: this.#options.vocabulary });
    this.#watch();
    return port;
  }

  /** Gives the call that is being answered its time. */
  #watch(): void {
    clearTimeout(this.#timer);
    if (this.#calls.length === 0) return;
    this.#timer = setTimeout(() => this.#expire(), this.#starting ? START_MS : (this.#options.timeoutMs ?? TIMEOUT_MS));
  }

  #hear({ mask, ahead, error }: GrammarReply): void {
    const { session, length } = this.#calls.shift() ?? { session: undefined, length: 0 };
    this.#starting = false;
    const alive = session && this.#sessions.has(session.number) ? session : undefined;
    if (error) {
      const message = `Cannot follow the grammar: ${error.message}`;
      const failure = new EngineError("bad-request", message, { field: "constraint" });
      if (error.fatal) this.#lose(alive, failure);
      else if (alive) this.#fail(alive, failure);
    } else if (alive?.ids.length === length) {
      if (mask) alive.waiting = false;
      if (mask) alive.onMask(mask);
      if (ahead) alive.ahead = undefined;
      if (ahead) alive.onAhead(ahead);
    }
    this.#watch();
  }

  #expire(): void {
    const session = this.#calls[0]?.session;
    if (session) {
      if (this.#refused.size >= MOST_REFUSED) this.#refused.clear();
      this.#refused.add(JSON.stringify(session.grammar));
    }
    this.#lose(session, session ? this.#tooSlow() : new EngineError("closed", "Cannot go on with a grammar: its thread does not answer"));
  }

  /** The thread is of no use any more. @param guilty who is to blame; without one all sessions end, for another thread would fare no better */
  #lose(guilty: Session | undefined, error: Error): void {
    this.#drop();
    for (const session of this.#sessions.values()) {
      session.known = false;
      if (session === guilty || !guilty) this.#fail(session, error);
      else if (session.ahead) this.#askAhead(session, session.ahead);
      else if (session.waiting) this.#ask(session, []);
    }
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#port?.end();
    this.#port = undefined;
    this.#calls = [];
    this.#starting = false;
  }

  #fail(session: Session, error: Error): void {
    this.#sessions.delete(session.number);
    session.onError(error);
  }

  #tooSlow(): EngineError {
    const seconds = (this.#options.timeoutMs ?? TIMEOUT_MS) / 1000;
    return new EngineError("bad-request", `Cannot follow the grammar: it takes more than ${seconds} s to prepare, expected a simpler one`, {
      field: "constraint",
    });
  }
}
