/** The worker that owns the GPU. */
import { expose } from "comlink";
import { EngineHost } from "./host.ts";

expose(new EngineHost());
