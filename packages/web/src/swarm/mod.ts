/** A swarm in a page: to be imported when it is used, for its worker is large. */
export type { ContributeOptions, ContributionView, PeerView, SwarmFacts, SwarmOptions, SwarmView } from "./protocol.ts";
export { type StoredSwarm, deleteSwarm, storedSwarms } from "./storage.ts";
export { Swarm } from "./swarm.ts";
