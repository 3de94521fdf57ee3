/** What only Deno can: its WebRTC comes from a package. */
export { denoPeerConnection } from "./link/rtc.deno.ts";
