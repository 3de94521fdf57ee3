/** Where `shoal relay` listens unless told otherwise. */
export const RELAY_HOST = "127.0.0.1";
export const RELAY_PORT = 4001;
