export { type Clock, SYSTEM_CLOCK } from "./clock.ts";
export { SwarmError, type SwarmErrorCode } from "./errors.ts";
export type { Lane, LaneEvents } from "./link/lane.ts";
export type { Link, LinkStats } from "./link/link.ts";
export { memoryLanes, type MemoryLane } from "./link/memoryLane.ts";
export { portLane } from "./link/portLane.ts";
export { StripedLink, type StripedLinkOptions } from "./link/stripedLink.ts";
