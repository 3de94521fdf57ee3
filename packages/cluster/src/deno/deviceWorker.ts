/** A worker that owns a device. Nothing else may live in this thread, since Deno's wgpu blocks its event loop while it waits. */
import { type PortLike, portChannel } from "../channels/port.ts";
import { DeviceServer } from "./deviceServer.ts";

new DeviceServer().serve(portChannel(globalThis as unknown as PortLike));
