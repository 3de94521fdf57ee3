/** Runs the links' contract over WebRTC between two ends in this process, which must be where there is nothing but a loopback interface. A line for each case. */
import { networkInterfaces } from "node:os";
import type { Lane } from "../../src/link/lane.ts";
import { denoPeerConnection } from "../../src/link/rtc.deno.ts";
import { RtcNegotiator } from "../../src/link/rtcNegotiator.ts";
import { LINK_CASES, type MakeLane } from "../linkContract.ts";

const outside = Object.keys(networkInterfaces()).filter((name) => name !== "lo");
if (outside.length > 0) throw new Error(`Cannot open WebRTC here: there is '${outside.join("', '")}', expected a namespace of its own`);

const make: MakeLane = () =>
  new Promise((resolve, reject) => {
    const ends: (Lane | undefined)[] = [undefined, undefined];
    const opened = (index: number) => (lane: Lane) => {
      ends[index] = lane;
      const [a, b] = ends;
      if (a && b) resolve([a, b]);
    };
    const rtc = { PeerConnection: denoPeerConnection() };
    const failure = (): void => reject(new Error("No lane came about"));
    const a: RtcNegotiator = new RtcNegotiator(rtc, { send: (signal) => void b.take(signal), lane: opened(0), failure });
    const b: RtcNegotiator = new RtcNegotiator(rtc, { send: (signal) => void a.take(signal), lane: opened(1), failure });
    void a.offer();
  });

for (const { name, run } of LINK_CASES) {
  try {
    await run(make);
    console.log(JSON.stringify({ name, ok: true }));
  } catch (error) {
    console.log(JSON.stringify({ name, ok: false, error: String(error) }));
  }
}
Deno.exit(0);
