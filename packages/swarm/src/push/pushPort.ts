/**
 * A user's channel to a peer's stage, where the stage pushes: between the link and the stage it hands calls on as they are, but for those of pushing. A pushed step waits here for its
 * input, goes to the stage as an ordinary one, and what comes out goes to the next peer and, for the client's history, to the client: the same bytes to both.
 */
import {
  type ActivationFormat,
  type Frame,
  type FrameChannel,
  type Message,
  type Tensor,
  decodeFrame,
  encodeFrame,
  entryRows,
  errorToRecord,
  frameAddress,
  parsed,
  stageSchemas,
} from "@shoal/cluster";
import type { z } from "zod";
import { SwarmError } from "../errors.ts";
import * as messages from "./messages.ts";
import { PushInbox } from "./pushInbox.ts";
import type { PushLine, PushLinks } from "./pushLinks.ts";

export interface PushPortOptions {
  /** To the stage. */
  readonly near: FrameChannel;
  /** To the user. */
  readonly far: FrameChannel;
  readonly links: PushLinks;
  readonly hiddenSize: number;
  /** Rows of a step. */
  readonly maxTokens: number;
}

type StepCall = z.infer<typeof messages.pushedStepCall>;

/** A step that the stage is at. */
interface Running {
  readonly message: Message;
  readonly answer: "step" | "told" | "drafted";
  readonly give: number | null;
  readonly activations: ActivationFormat;
  readonly taken: Promise<string | undefined>;
}

/** Until either channel ends. */
export function servePushing(options: PushPortOptions): void {
  new PushPort(options).serve();
}

class PushPort {
  readonly #options: PushPortOptions;
  /** By the call's number, which is the client's. */
  readonly #running = new Map<number, Running>();
  #inbox: PushInbox | undefined;
  #stopExpecting: () => void = () => {};
  #onward: { readonly key: string; readonly line: PushLine } | undefined;
  #ended = false;

  constructor(options: PushPortOptions) {
    this.#options = options;
  }

  serve(): void {
    const { near, far } = this.#options;
    near.onFrame((frame) => {
      const { call } = frameAddress(frame);
      const running = this.#running.get(call);
      this.#running.delete(call);
      if (running) void this.#finish(running, frame).catch((error: unknown) => this.#refuse(running.message, error));
      else far.send(frame);
    });
    far.onFrame((frame) => {
      if (frameAddress(frame).target === messages.PUSH_TARGET) this.#called(frame);
      else near.send(frame);
    });
    void near.closed.then((reason) => far.close(reason));
    void far.closed.then((reason) => {
      this.#ended = true;
      near.close(reason);
      this.#stopExpecting();
      this.#inbox?.close();
      this.#onward?.line.release();
    });
  }

  #called(frame: Frame): void {
    let message: Message;
    try {
      message = decodeFrame(frame);
    } catch (error) {
      this.#options.far.close(error instanceof Error ? error.message : String(error));
      return;
    }
    if (message.kind !== "call") return;
    try {
      const done = this.#dispatch(message);
      if (done === undefined) return;
      done.then(
        (body) => this.#options.far.send(messages.resultFrame(message, body)),
        (error: unknown) => this.#refuse(message, error),
      );
    } catch (error) {
      this.#refuse(message, error);
    }
  }

  /** @returns the answer, or undefined where it comes from elsewhere */
  #dispatch(message: Message): Promise<unknown> | undefined {
    const { method = "", body } = message;
    switch (method) {
      case "expect": {
        const { from, key } = parsed(messages.expectCall, method, body);
        this.#expect(from, key);
        return Promise.resolve(null);
      }
      case "pushTo": {
        const { peer, key } = parsed(messages.pushToCall, method, body);
        return this.#pushTo(peer, key);
      }
      case "step":
        this.#step(message, parsed(messages.pushedStepCall, method, body));
        return undefined;
      case "isWaiting":
        return Promise.resolve(this.#inbox?.isWaiting(parsed(messages.takeCall, method, body).take) ?? false);
      case "supply": {
        const { take, hidden } = parsed(messages.supplyCall, method, body);
        if (this.#inbox?.isWaiting(take) === true) this.#inbox.arrived(take, hidden);
        return Promise.resolve(null);
      }
      case "cancel":
        this.#inbox?.cancel(parsed(messages.takeCall, method, body).take);
        return Promise.resolve(null);
      default:
        throw new SwarmError("malformed", `Cannot call '${method.slice(0, 40)}': there is no such call of pushing`);
    }
  }

  #expect(from: string, key: string): void {
    const { links, hiddenSize, maxTokens } = this.#options;
    this.#stopExpecting();
    this.#inbox?.close();
    this.#inbox = new PushInbox(hiddenSize, 2 * maxTokens);
    this.#stopExpecting = links.expect(from, key, this.#inbox);
  }

  async #pushTo(peer: string, key: string): Promise<null> {
    const line = await this.#options.links.to(peer);
    if (this.#ended) line.release();
    else {
      this.#onward?.line.release();
      this.#onward = { key, line };
    }
    return null;
  }

  #step(message: Message, call: StepCall): void {
    const { take } = call;
    if (take === null) return this.#begin(message, call, Promise.resolve(undefined));
    if (!this.#inbox) throw new SwarmError("malformed", "Cannot take a step: nobody is expected to push its input", { field: "take" });
    const rows = call.batch.entries.reduce((sum, { tokens, verify = 0 }) => sum + entryRows({ tokens, verify }), 0);
    this.#inbox.take(take, {
      rows,
      take: (hidden) => {
        let row = 0;
        const entries = call.batch.entries.map((entry) => {
          const begin = row;
          row += entryRows({ tokens: entry.tokens, verify: entry.verify ?? 0 });
          return { ...entry, hidden: this.#rows(hidden, begin, row) };
        });
        this.#begin(message, { ...call, batch: { ...call.batch, entries } }, messages.digestOf(hidden));
      },
      refuse: (error) => this.#refuse(message, error),
    });
  }

  #rows(hidden: Float32Array<ArrayBuffer>, begin: number, end: number): Tensor {
    const { hiddenSize } = this.#options;
    return messages.rowsTensor(hidden.slice(begin * hiddenSize, end * hiddenSize), hiddenSize, "f32");
  }

  /** The same call, as the stage knows it. Its hidden states come as they are, to be written once for both who get them. */
  #begin(message: Message, { batch, activations, told, drafting, give }: StepCall, taken: Promise<string | undefined>): void {
    const answer = !told ? "step" : drafting ? "drafted" : "told";
    this.#running.set(message.call, { message, answer, give, activations, taken });
    const method = { step: "forward", told: "forwardTold", drafted: "forwardDrafted" }[answer];
    this.#options.near.send(
      encodeFrame({
        kind: "call",
        call: message.call,
        target: 0,
        method,
        body: { batch, activations: "f32", ...(answer === "drafted" && { drafting }) },
      }),
    );
  }

  async #finish({ message, answer, give, activations, taken }: Running, frame: Frame): Promise<void> {
    const { far, hiddenSize } = this.#options;
    const { kind, body } = decodeFrame(frame);
    if (kind !== "result") return far.send(frame);
    const what = "a step's result";
    const step =
      answer === "step"
        ? { output: parsed(stageSchemas.stepOutput, what, body) }
        : parsed(answer === "told" ? stageSchemas.toldStep : stageSchemas.draftedStep, what, body);
    const given = step.output.hidden;
    const hidden = given && messages.rowsTensor(messages.rowsOf(given, hiddenSize), hiddenSize, activations);
    let gave = false;
    if (give !== null && hidden && this.#onward) {
      const { key, line } = this.#onward;
      gave = line.send(messages.encodePush({ key, number: give, hidden }));
    }
    const digest = await taken;
    const output = { ...step.output, ...(hidden && { hidden }) };
    far.send(messages.resultFrame(message, { ...step, output, gave, ...(digest !== undefined && { taken: digest }) }));
  }

  #refuse({ call, target }: Message, error: unknown): void {
    this.#options.far.send(encodeFrame({ kind: "error", call, target, body: errorToRecord(error) }));
  }
}
