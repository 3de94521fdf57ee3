/** The worker that owns the GPU. Its name is the model's address. */
import { expose } from "comlink";
import { EngineHost } from "./host.ts";

expose(new EngineHost(new URL(self.name)));
