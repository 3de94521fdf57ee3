/** The worker of a swarm's member. WebRTC is the page's. */
import { expose } from "comlink";
import { SwarmHost } from "./host.ts";

performance.mark("swarm: worker");
expose(new SwarmHost());
