/**
 * WebRTC for a worker. Browsers give RTCPeerConnection to pages alone, and not all of them let its data channels go to a worker: so the page's main thread makes the connections,
 * and the worker's peers have negotiators that ask it to. One port serves all of them; each lane gets a port of its own.
 *
 *     worker -> page    { id, ask: "open" | "offer" | "close" }, { id, ask: "take", call, signal }
 *     page -> worker    { id, signal }, { id, lane: MessagePort, kind }, { id, failed: lane }, { id, call, refused?: why }
 */
import { SwarmError } from "../errors.ts";
import { bridgeLane, bridgedLane } from "./bridgedLane.ts";
import { type MakeNegotiator, type NegotiatorEvents, RtcNegotiator, type RtcOptions, type Signal } from "./rtcNegotiator.ts";

type ToPage = { readonly id: number } & (
  | { readonly ask: "open" | "offer" | "close" }
  | { readonly ask: "take"; readonly call: number; readonly signal: Signal }
);

type ToWorker = { readonly id: number } & (
  | { readonly signal: Signal }
  | { readonly lane: MessagePort; readonly kind: string }
  | { readonly failed: number }
  | { readonly call: number; readonly refused?: string }
);

/** The page's side, until the returned function is called: that ends what is being negotiated. Both sides are the page's own code, so nothing is checked. */
export function negotiateFor(port: MessagePort, options: RtcOptions): () => void {
  const negotiators = new Map<number, RtcNegotiator>();
  const tell = (message: ToWorker, transfer: Transferable[] = []): void => port.postMessage(message, transfer);
  const open = (id: number): RtcNegotiator =>
    new RtcNegotiator(options, {
      send: (signal) => tell({ id, signal }),
      lane: (lane) => {
        const { port1, port2 } = new MessageChannel();
        bridgeLane(lane, port1);
        tell({ id, lane: port2, kind: lane.kind }, [port2]);
      },
      failure: (failed) => tell({ id, failed }),
    });
  port.addEventListener("message", ({ data }: MessageEvent<ToPage>) => {
    const { id } = data;
    const negotiator = negotiators.get(id);
    if (data.ask === "take") {
      const { call, signal } = data;
      negotiator?.take(signal).then(
        () => tell({ id, call }),
        (error: unknown) => tell({ id, call, refused: error instanceof Error ? error.message : String(error) }),
      );
    } else if (data.ask === "open") negotiators.set(id, open(id));
    else if (data.ask === "offer") void negotiator?.offer();
    else {
      negotiators.delete(id);
      negotiator?.close();
    }
  });
  port.start();
  return () => {
    port.close();
    for (const negotiator of negotiators.values()) negotiator.close();
    negotiators.clear();
  };
}

/** The worker's side. */
export function brokeredNegotiators(port: MessagePort): MakeNegotiator {
  const open = new Map<number, { readonly on: NegotiatorEvents; readonly calls: Map<number, (refused: string | undefined) => void> }>();
  let last = 0;
  const ask = (message: ToPage): void => port.postMessage(message);
  port.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
    const held = open.get(data.id);
    if ("call" in data) held?.calls.get(data.call)?.(data.refused);
    else if ("lane" in data) {
      const lane = bridgedLane(data.lane, data.kind);
      if (held) held.on.lane(lane);
      else lane.close();
    } else if ("failed" in data) held?.on.failure?.(data.failed);
    else held?.on.send(data.signal);
  });
  port.start();
  return (on) => {
    const id = ++last;
    const calls = new Map<number, (refused: string | undefined) => void>();
    open.set(id, { on, calls });
    ask({ id, ask: "open" });
    let call = 0;
    return {
      offer: () => Promise.resolve(ask({ id, ask: "offer" })),
      take: (signal) =>
        new Promise((resolve, reject) => {
          const own = ++call;
          calls.set(own, (refused) => {
            calls.delete(own);
            if (refused === undefined) resolve();
            else reject(new SwarmError("malformed", refused));
          });
          ask({ id, ask: "take", call: own, signal });
        }),
      close() {
        if (!open.delete(id)) return;
        ask({ id, ask: "close" });
        for (const settle of calls.values()) settle(undefined);
      },
    };
  };
}
