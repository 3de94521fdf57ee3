/** The worker that owns the second GPU, where there is one. */
import { expose } from "comlink";
import { StageHost } from "./stageHost.ts";

expose(new StageHost());
