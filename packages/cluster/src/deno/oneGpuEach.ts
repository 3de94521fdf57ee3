/**
 * A process for each of several GPUs that are called alike. A driver shows a process every GPU whose device file it can open, and by a name Dawn opens the first; so each process gets a mount
 * namespace of its own, in which /dev/null lies over the files of the others. On two GPUs of NVIDIA's nothing else did: DRI_PRIME with Mesa's layer, CUDA_VISIBLE_DEVICES and
 * NVIDIA_VISIBLE_DEVICES changed nothing for Vulkan. Linux only: namespaces as root, or for whoever may have a user namespace.
 *
 * Nothing is taken for granted: before a launcher is given out, a process that it started has said that it sees one adapter of that name.
 */
import type { NamedAdapters } from "@shoal/gpu/deno";
import { z } from "zod";

/** What starts a program in front of whose arguments it stands. */
export type Launcher = readonly string[];

export interface Separation {
  /** By an adapter's name: as many launchers as adapters are called so, each of which shows another of them. */
  readonly launchers: ReadonlyMap<string, readonly Launcher[]>;
  /** By the name of those that have none: why. */
  readonly problems: ReadonlyMap<string, string>;
}

/** What there is to try it with. */
export interface Machine {
  /** Device files of GPUs, a group for each kind of driver: what hides one of a group hides that GPU. */
  readonly files: readonly (readonly string[])[];
  /** Runs a program to its end. @returns undefined where it cannot be started */
  readonly run: (command: readonly string[]) => Promise<Ran | undefined>;
  /** What prints, as JSON, the adapters that a process sees. */
  readonly look: readonly string[];
}

export interface Ran {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** As root; and with the rights of root over a namespace of one's own. */
const WAYS = [[], ["--user", "--map-root-user"]] as const;

/** $1 of the arguments are files to hide; the rest is the program, which takes the shell's place: its signals and its end are the process's own. */
const HIDE = 'n=$1; shift; while [ "$n" -gt 0 ]; do mount --bind /dev/null "$1" || exit 1; shift; n=$((n - 1)); done; exec "$@"';

const sightSchema = z.array(z.strictObject({ name: z.string().max(200), count: z.int().min(1) })).max(64);

/** What starts a program that finds /dev/null in place of some files, and nobody else does. Pure. */
export function hiding(files: readonly string[], way: readonly string[] = WAYS[0]): Launcher {
  return ["unshare", ...way, "--mount", "--propagation", "private", "sh", "-c", HIDE, "sh", String(files.length), ...files];
}

/** From the names of what lies in /dev and /dev/dri. NVIDIA's driver opens its own files; Mesa's and others those of the kernel's DRM. Pure. */
export function gpuFiles(dev: readonly string[], dri: readonly string[]): Machine["files"] {
  const numbered = (folder: string, names: readonly string[], pattern: RegExp): readonly string[] =>
    names
      .flatMap((name) => (pattern.test(name) ? [{ name, number: Number(name.replace(/^\D+/, "")) }] : []))
      .sort((a, b) => a.number - b.number)
      .map(({ name }) => `${folder}/${name}`);
  return [numbered("/dev", dev, /^nvidia\d{1,3}$/), numbered("/dev/dri", dri, /^renderD\d{1,3}$/)].filter((group) => group.length > 0);
}

/** @param alike adapters of which more than one is called so */
export async function separate(alike: readonly NamedAdapters[], machine: Machine): Promise<Separation> {
  const launchers = new Map<string, readonly Launcher[]>();
  const reasons: string[] = [];
  for (const files of machine.files.filter(({ length }) => length > 1)) {
    if (launchers.size === alike.length) break;
    const sights = await sightsOf(files, machine);
    if (typeof sights === "string") {
      reasons.push(sights);
      continue;
    }
    for (const { name, count } of alike) {
      const showing = sights.filter(({ seen }) => seen.find((each) => each.name === name)?.count === 1);
      if (showing.length >= count)
        launchers.set(
          name,
          showing.slice(0, count).map(({ launcher }) => launcher),
        );
      else if (!launchers.has(name))
        reasons.push(
          `of the files ${files.join(", ")}, ${showing.length} alone show a process one adapter of that name, expected ${count}`,
        );
    }
  }
  const problem =
    reasons.at(-1) ?? "there are no device files that could be hidden: expected /dev/nvidia0 and on, or /dev/dri/renderD128 and on";
  return { launchers, problems: new Map(alike.flatMap(({ name }) => (launchers.has(name) ? [] : [[name, problem]]))) };
}

interface Sight {
  readonly launcher: Launcher;
  readonly seen: readonly NamedAdapters[];
}

/** What a process sees with each of the files alone. @returns why that cannot be had */
async function sightsOf(files: readonly string[], { run, look }: Machine): Promise<readonly Sight[] | string> {
  const way = await workingWay(files.slice(1), run);
  if (typeof way === "string") return way;
  return Promise.all(
    files.map(async (file) => {
      const launcher = hiding(
        files.filter((other) => other !== file),
        way.arguments,
      );
      return { launcher, seen: seenIn((await run([...launcher, ...look]))?.stdout ?? "") };
    }),
  );
}

async function workingWay(files: readonly string[], run: Machine["run"]): Promise<{ readonly arguments: readonly string[] } | string> {
  let why = "";
  for (const way of WAYS) {
    const ran = await run([...hiding(files, way), "true"]);
    if (!ran) return "there is no 'unshare' (of util-linux) here";
    if (ran.ok) return { arguments: way };
    why = ran.stderr.trim().split("\n").at(-1)?.slice(0, 200) ?? "";
  }
  return `a process may not have a mount namespace of its own (${why}): expected root with CAP_SYS_ADMIN, or user namespaces for everybody`;
}

function seenIn(text: string): readonly NamedAdapters[] {
  try {
    return sightSchema.parse(JSON.parse(text));
  } catch {
    // Without any adapter Dawn may not even start.
    return [];
  }
}
