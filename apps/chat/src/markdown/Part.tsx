/** A part of a text, small enough to be shown at once: on the page when its turn has come, and until then as it was. What is the same as before is not looked at again. */
import type { ComponentChild } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useText } from "./context.ts";
import { isSame } from "./same.ts";
import { MAX_PART, type Sized, groupsOf, partSize, sizeOfAll } from "./sizes.ts";

interface PartProps<T> {
  /** Plain data; what is shown depends on nothing else. */
  readonly value: T;
  /** Elements and texts that it makes. */
  readonly size: number;
  readonly show: (value: T) => ComponentChild;
}

interface Shown<T> {
  readonly value: T;
  readonly child: ComponentChild;
}

export function Part<T>({ value, size, show }: PartProps<T>) {
  const { turns } = useText();
  const shown = useRef<Shown<T> | null>(null);
  const wanted = useRef({ value, size, show });
  wanted.current = { value, size, show };
  const leave = useRef<(() => void) | null>(null);
  const [, showAgain] = useState(0);
  if (shown.current !== null && isSame(shown.current.value, value)) shown.current = { value, child: shown.current.child };
  else if (leave.current === null && turns.take(size)) shown.current = { value, child: show(value) };
  useLayoutEffect(() => {
    if (leave.current !== null || shown.current?.value === value) return;
    leave.current = turns.wait(size, () => {
      leave.current = null;
      const now = wanted.current;
      shown.current = { value: now.value, child: now.show(now.value) };
      showAgain((times) => times + 1);
    });
  });
  useLayoutEffect(() => () => leave.current?.(), []);
  return <>{shown.current?.child}</>;
}

interface PartsProps<T extends Sized> {
  readonly nodes: readonly T[];
  /** Whether more will come at the end. */
  readonly growing: boolean;
  readonly show: (nodes: readonly T[], growing: boolean) => ComponentChild;
}

/** Siblings, in as many parts as they need. */
export function Parts<T extends Sized>({ nodes, growing, show }: PartsProps<T>) {
  if (sizeOfAll(nodes) <= MAX_PART) return <>{show(nodes, growing)}</>;
  const groups = groupsOf(nodes);
  return (
    <>
      {groups.map((group, index) => (
        <Part
          key={index}
          value={{ nodes: group.nodes, growing: growing && index === groups.length - 1 }}
          size={partSize(group.size)}
          show={(value) => show(value.nodes, value.growing)}
        />
      ))}
    </>
  );
}
