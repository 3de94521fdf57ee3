/**
 * Calls over a channel: many at once, answered in any order, begun in the order in which they were made. The caller notices when the other side is gone: its channel closes, or it
 * says nothing for too long while calls wait, not even that it is alive.
 */
import type { z } from "zod";
import { ClusterError, PeerLostError } from "../errors.ts";
import type { Frame, FrameChannel } from "./channel.ts";
import { errorRecordSchema, errorToRecord, recordToError } from "./errorRecord.ts";
import { type Message, decodeFrame, encodeFrame } from "./frame.ts";

/** A worker whose thread is inside a driver that compiles answers no ping for seconds; a peer that is gone never does. */
const DEFAULT_SILENCE_MS = 120_000;
/** Calls that one channel may have under way. An engine has some 40 at most: two readings of 16 steps. */
const MAX_CALLS = 1024;

export interface CallerOptions {
  /** Who is at the other end, for errors. */
  readonly peer: string;
  /** Silence after which it counts as gone, while calls wait. Infinity: only a closed channel tells. */
  readonly silenceMs?: number;
}

interface Pending {
  readonly resolve: (body: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** What has been sent and received, for comparing with a formula. */
export interface Traffic {
  messagesSent: number;
  bytesSent: number;
  messagesReceived: number;
  bytesReceived: number;
}

export class Caller {
  readonly peer: string;
  /** Resolves with the error that calls get from now on. */
  readonly lost: Promise<PeerLostError>;
  readonly traffic: Traffic = { messagesSent: 0, bytesSent: 0, messagesReceived: 0, bytesReceived: 0 };
  readonly #channel: FrameChannel;
  readonly #pending = new Map<number, Pending>();
  readonly #silenceMs: number;
  #nextCall = 1;
  #loss: PeerLostError | undefined;
  #heardAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(channel: FrameChannel, { peer, silenceMs = DEFAULT_SILENCE_MS }: CallerOptions) {
    this.peer = peer;
    this.#channel = channel;
    this.#silenceMs = silenceMs;
    channel.onFrame((frame) => this.#received(frame));
    this.lost = channel.closed.then((reason) => this.#end(new PeerLostError(peer, reason)));
  }

  /** @throws PeerLostError, or what the other side threw, by name and code */
  call(target: number, method: string, body: unknown): Promise<unknown> {
    if (this.#loss) return Promise.reject(this.#loss);
    const call = this.#nextCall;
    // 0 is for pings.
    this.#nextCall = call === 0xffffffff ? 1 : call + 1;
    let frame: Frame;
    try {
      frame = encodeFrame({ kind: "call", call, target, method, body });
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#pending.set(call, { resolve, reject });
      this.#send(frame);
      this.#watch();
    });
  }

  close(): void {
    this.#channel.close("this side closed it");
  }

  #send(frame: Frame): void {
    this.traffic.messagesSent++;
    this.traffic.bytesSent += frame.byteLength;
    this.#channel.send(frame);
  }

  #received(frame: Frame): void {
    this.traffic.messagesReceived++;
    this.traffic.bytesReceived += frame.byteLength;
    this.#heardAt = performance.now();
    let message: Message;
    try {
      message = decodeFrame(frame);
    } catch (error) {
      // Whoever sends one such frame cannot be understood: nothing after it can be trusted.
      this.#channel.close(error instanceof Error ? error.message : String(error));
      return;
    }
    const pending = this.#pending.get(message.call);
    if (!pending || (message.kind !== "result" && message.kind !== "error")) return;
    this.#pending.delete(message.call);
    if (message.kind === "result") pending.resolve(message.body);
    else {
      const record = errorRecordSchema.safeParse(message.body);
      pending.reject(record.success ? recordToError(record.data) : new ClusterError("bad-frame", "Cannot read an error of the other side"));
    }
  }

  #watch(): void {
    if (this.#timer !== undefined || !Number.isFinite(this.#silenceMs)) return;
    this.#heardAt = performance.now();
    const check = (): void => {
      this.#timer = undefined;
      if (this.#pending.size === 0 || this.#loss) return;
      const silent = performance.now() - this.#heardAt;
      if (silent >= this.#silenceMs) {
        this.#channel.close(`it has been silent for ${Math.round(silent / 1000)} s`);
        return;
      }
      if (silent >= this.#silenceMs / 4) this.#send(encodeFrame({ kind: "ping", call: 0, target: 0, body: null }));
      this.#timer = setTimeout(check, this.#silenceMs / 4);
    };
    this.#timer = setTimeout(check, this.#silenceMs / 4);
  }

  #end(loss: PeerLostError): PeerLostError {
    this.#loss = loss;
    clearTimeout(this.#timer);
    for (const { reject } of this.#pending.values()) reject(loss);
    this.#pending.clear();
    return loss;
  }
}

/** Begins a call's work at once, without waiting, so that work keeps the order of the calls. @throws anything: it goes to the caller */
export type Dispatch = (target: number, method: string, body: unknown) => unknown;

/** Answers calls until the channel closes. What a caller says is checked by `dispatch`, not here. */
export function answerCalls(channel: FrameChannel, dispatch: Dispatch): void {
  let running = 0;
  const answer = (message: Message, kind: "result" | "error", body: unknown): void => {
    const { call, target } = message;
    let frame: Frame;
    try {
      frame = encodeFrame({ kind, call, target, body: body ?? null });
    } catch (error) {
      frame = encodeFrame({ kind: "error", call, target, body: errorToRecord(error) });
    }
    channel.send(frame);
  };
  const run = async (message: Message): Promise<void> => {
    if (running >= MAX_CALLS) {
      answer(message, "error", errorToRecord(new ClusterError("refused", `Cannot take a call: ${running} are under way`)));
      return;
    }
    running++;
    try {
      answer(message, "result", await dispatch(message.target, message.method ?? "", message.body));
    } catch (error) {
      answer(message, "error", errorToRecord(error));
    } finally {
      running--;
    }
  };
  channel.onFrame((frame) => {
    let message: Message;
    try {
      message = decodeFrame(frame);
    } catch (error) {
      channel.close(error instanceof Error ? error.message : String(error));
      return;
    }
    if (message.kind === "ping") channel.send(encodeFrame({ kind: "pong", call: 0, target: 0, body: null }));
    else if (message.kind === "call") void run(message);
  });
}

/** What a schema makes of a body. @throws ClusterError bad-frame naming the field */
export function parsed<Schema extends z.ZodType>(schema: Schema, what: string, body: unknown): z.infer<Schema> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = [what, ...(issue?.path ?? [])].map(String).join(".");
  throw new ClusterError("bad-frame", `Cannot use '${field}' of a frame: ${issue?.message.slice(0, 200) ?? "it is not as expected"}`, {
    field,
  });
}
