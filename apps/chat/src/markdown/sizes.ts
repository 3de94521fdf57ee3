/** How many elements and texts a node makes, and children in groups of about as many. */

/** A part of a text has no more than this, unless a single thing in it does. */
export const MAX_PART = 80;

/** Text, or an element of whatever kind; one that shows itself in parts has no children here. */
export type Sized = string | { readonly children?: readonly Sized[] } | { readonly kind: "code" | "math" | "image" };

/** A block of code before its lines: a frame, a name, a button. */
const SHELL = 10;

export function sizeOf(node: Sized): number {
  if (typeof node !== "string" && "kind" in node && node.kind === "code") return SHELL;
  return typeof node !== "string" && "children" in node ? 1 + sizeOfAll(node.children ?? []) : 1;
}

/** What of something counts where it is shown: what is larger than a part is in parts itself. */
export function partSize(size: number): number {
  return size > MAX_PART ? 1 : size;
}

export function sizeOfAll(nodes: readonly Sized[]): number {
  return nodes.reduce((sum, node) => sum + sizeOf(node), 0);
}

export interface Group<T> {
  readonly nodes: readonly T[];
  readonly size: number;
}

/** A group is settled once it is followed by another: children that come at the end change none before the last. */
export function groupsOf<T extends Sized>(nodes: readonly T[]): readonly Group<T>[] {
  const groups: Group<T>[] = [];
  let group: T[] = [];
  let size = 0;
  const close = (): void => {
    if (group.length > 0) groups.push({ nodes: group, size });
    group = [];
    size = 0;
  };
  for (const node of nodes) {
    const more = sizeOf(node);
    if (size + more > MAX_PART) close();
    group.push(node);
    size += more;
  }
  close();
  return groups;
}
