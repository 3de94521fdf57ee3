/** Prints the adapters that Dawn names in this process, as JSON. */
import { dawnAdapters } from "@shoal/gpu/deno";

Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(await dawnAdapters())));
// Not `Deno.exit`, which runs the exit handlers of graphics drivers, and those may crash.
Deno.kill(Deno.pid, "SIGKILL");
