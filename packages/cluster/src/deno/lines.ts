/** How stages of this machine's processes and workers reach one another: by sockets in the file system, in folders that nobody else may look into. */
import { streamChannel } from "../channels/stream.ts";
import type { Lines } from "../stage/handing.ts";
import type { FrameChannel } from "../wire/channel.ts";

export const socketLines: Lines = {
  async listen() {
    // Only this user may open what is in it.
    const folder = await Deno.makeTempDir({ prefix: "shoal-line-" });
    const remove = (): void => void Deno.remove(folder, { recursive: true }).catch(() => undefined);
    try {
      const address = `${folder}/line`;
      const listener = Deno.listen({ transport: "unix", path: address });
      let open = true;
      const close = (): void => {
        if (!open) return;
        open = false;
        listener.close();
        remove();
      };
      return { address, channel: listener.accept().then(channelOf).finally(close), close };
    } catch (error) {
      remove();
      throw error;
    }
  },
  async connect(address) {
    return channelOf(await Deno.connect({ transport: "unix", path: address }));
  },
};

function channelOf(connection: Deno.UnixConn): FrameChannel {
  const end = (): void => {
    try {
      connection.close();
    } catch {
      // Its streams have closed it.
    }
  };
  return streamChannel(connection.readable, connection.writable, { end });
}
