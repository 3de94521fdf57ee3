/** Serves a folder on a host of the network lab, and prints where. */
import process from "node:process";
import { StaticServer } from "./staticServer.ts";

const server = new StaticServer(process.argv[2] ?? ".");
await server.start();
console.log(server.url);
