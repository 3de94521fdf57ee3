/** The links' contract over real WebRTC, in Deno. */
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { hostTests } from "./hosts/inNamespace.ts";
import { LINK_CASES } from "./linkContract.ts";

export function tests(): readonly GpuTest[] {
  return hostTests(
    "./contractHost.ts",
    "a link over WebRTC: ",
    LINK_CASES.map(({ name }) => name),
  );
}
