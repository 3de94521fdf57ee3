/** A process that owns a device and speaks frames over stdin and stdout. It ends with its channel. */
import { streamChannel } from "../channels/stream.ts";
import { DeviceServer } from "./deviceServer.ts";

// Stdout belongs to the frames.
console.log = console.error;
console.info = console.error;
// Written at once: Deno hands what is written to a standard stream to another thread, which has to be woken first.
const output = new WritableStream<Uint8Array<ArrayBuffer>>({
  write(bytes) {
    for (let done = 0; done < bytes.byteLength;) done += Deno.stdout.writeSync(bytes.subarray(done));
  },
});
const channel = streamChannel(Deno.stdin.readable, output);
new DeviceServer().serve(channel);
await channel.closed;
// Not `Deno.exit`, which runs the exit handlers of graphics drivers, and those may crash.
Deno.kill(Deno.pid, "SIGKILL");
