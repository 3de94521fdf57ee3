/** The commands, in the order of the help. */
import type { Command } from "../command.ts";
import { benchCommand } from "./bench.ts";
import { chatCommand } from "./chat.ts";
import { doctorCommand } from "./doctor.ts";
import { generateCommand } from "./generate.ts";
import { inspectCommand } from "./inspect.ts";
import { logitsCommand } from "./logits.ts";
import { joinCommand } from "./join.ts";
import { relayCommand } from "./relay.ts";
import { planCommand } from "./plan.ts";
import { serveCommand } from "./serve.ts";
import { swarmCommand } from "./swarm.ts";
import { tuneCommand } from "./tune.ts";

export const COMMANDS: readonly Command[] = [
  chatCommand,
  generateCommand,
  serveCommand,
  joinCommand,
  swarmCommand,
  relayCommand,
  logitsCommand,
  inspectCommand,
  planCommand,
  benchCommand,
  tuneCommand,
  doctorCommand,
];
