/** What only Deno can: WebRTC from a package, and a relay that others connect to. */
export { denoPeerConnection } from "./link/rtc.deno.ts";
export { type Relay, type RelayOptions, startRelay } from "./control/relay.ts";
