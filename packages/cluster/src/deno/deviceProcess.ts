/** A process that owns a device and speaks frames over stdin and stdout. It ends with its channel. */
import { streamChannel } from "../channels/stream.ts";
import { DeviceServer } from "./deviceServer.ts";

// Stdout belongs to the frames.
console.log = console.error;
console.info = console.error;
const channel = streamChannel(Deno.stdin.readable, Deno.stdout.writable);
new DeviceServer().serve(channel);
await channel.closed;
// Not `Deno.exit`, which runs the exit handlers of graphics drivers, and those may crash.
Deno.kill(Deno.pid, "SIGKILL");
