/**
 * `npm run -s shoal -- ARGS`: the `shoal` command in a checkout. Progress of a first setup goes to stderr; stdout is the command's own.
 */
import { launchShoal } from "./setup/launch.mjs";

process.exitCode = await launchShoal(process.argv.slice(2));
