export { DeviceServer } from "./deviceServer.ts";
export { DeviceFleet, type FleetMember, type FleetRequest, type Split } from "./deviceFleet.ts";
export { type DeviceOptions, RemoteDevice, type ShardRequest, type StageRequest, openProcessDevice, openWorkerDevice } from "./devices.ts";
export type { DeviceReport } from "./schemas.ts";
