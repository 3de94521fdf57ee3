/** The worker that owns the GPU. */
import { expose } from "comlink";
import { installErrorTransfer } from "./errorTransfer.ts";
import { GpuHost } from "./host.ts";

installErrorTransfer();
expose(new GpuHost());
