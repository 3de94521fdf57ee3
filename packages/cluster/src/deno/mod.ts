export { DeviceServer } from "./deviceServer.ts";
export { DeviceFleet, type FleetMember, type FleetRequest } from "./deviceFleet.ts";
export { type Launcher, type Separation, separate } from "./oneGpuEach.ts";
export { thisMachine } from "./thisMachine.ts";
export { type ExpertLayout, type Split, type StageLayout, layoutOfPlan, layoutOfSplit } from "./layout.ts";
export { type DeviceOptions, RemoteDevice, type ShardRequest, type StageRequest, openProcessDevice, openWorkerDevice } from "./devices.ts";
export type { DeviceReport } from "./schemas.ts";
