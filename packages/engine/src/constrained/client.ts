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
  /** Asks for the mask of the token after these, which follow those of earlier calls. Only once the one before is there. */
  accept(ids: readonly number[]): void;
  close(): void;
}

interface Session {
  readonly number: number;
  readonly grammar: OutputGrammar;
  readonly ids: number[];
  readonly onMask: (mask: Uint32Array<ArrayBuffer>) => void;
  readonly onError: (error: Error) => void;
  /** Whether this thread has it as far as `ids` says. */
  known: boolean;
  waiting: boolean;
}

export class GrammarClient {
  readonly #options: GrammarClientOptions;
  readonly #sessions = new Map<number, Session>();
  readonly #refused = new Set<string>();
  #port: GrammarPort | undefined;
  /** Whose calls are not answered yet, the first first; undefined: nobody's. */
  #calls: (Session | undefined)[] = [];
  #starting = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #next = 0;

  constructor(options: GrammarClientOptions) {
    this.#options = options;
  }

  /** @throws EngineError for a grammar that took too long before */
  open(
    grammar: OutputGrammar,
    hearer: { readonly onMask: (mask: Uint32Array<ArrayBuffer>) => void; readonly onError: (error: Error) => void },
  ): GrammarSession {
    if (this.#refused.has(JSON.stringify(grammar))) throw this.#tooSlow();
    const session: Session = { number: this.#next++, grammar, ids: [], ...hearer, known: false, waiting: false };
    this.#sessions.set(session.number, session);
    return {
      accept: (ids) => {
        if (!this.#sessions.has(session.number)) return;
        session.ids.push(...ids);
        this.#ask(session, ids);
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

  #send(session: Session | undefined, call: Parameters<GrammarPort["send"]>[0]): void {
    const port = (this.#port ??= this.#start());
    this.#calls.push(session);
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
    this.#calls.push(undefined);
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

  #hear({ mask, error }: GrammarReply): void {
    const session = this.#calls.shift();
    this.#starting = false;
    const alive = session && this.#sessions.has(session.number) ? session : undefined;
    if (error) {
      const message = `Cannot follow the grammar: ${error.message}`;
      const failure = new EngineError("bad-request", message, { field: "constraint" });
      if (error.fatal) this.#lose(alive, failure);
      else if (alive) this.#fail(alive, failure);
    } else if (alive && mask) {
      alive.waiting = false;
      alive.onMask(mask);
    }
    this.#watch();
  }

  #expire(): void {
    const [session] = this.#calls;
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
