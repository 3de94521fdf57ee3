/** A button with a menu. The browser's popover lies over all else and closes by itself; arrow keys, Home, End and Escape work as in any menu. */
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./Icon.tsx";

export interface MenuItem {
  readonly name: string;
  readonly icon: IconName;
  readonly danger?: boolean;
  readonly run: () => void;
}

interface MenuButtonProps {
  readonly label: string;
  readonly icon: IconName;
  readonly items: readonly MenuItem[];
  readonly class?: string;
}

const WIDTH = 208;
const MARGIN = 8;

export function MenuButton({ label, icon, items, class: className = "" }: MenuButtonProps) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const choices = (): readonly HTMLElement[] => [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
  // Lists have many menus, and a person opens one.
  const [isOpen, setIsOpen] = useState(false);
  /** With its items rendered: whatever key comes next finds the first of them focused. */
  const show = (): void => {
    if (!button.current || !menu.current) return;
    menu.current.showPopover();
    const { bottom, top, right } = button.current.getBoundingClientRect();
    const height = menu.current.offsetHeight;
    const under = bottom + height + MARGIN < innerHeight;
    menu.current.style.left = `${Math.max(MARGIN, Math.min(right - WIDTH, innerWidth - WIDTH - MARGIN))}px`;
    menu.current.style.top = `${under ? bottom + 4 : Math.max(MARGIN, top - height - 4)}px`;
    choices()[0]?.focus();
  };
  useLayoutEffect(() => {
    if (isOpen) show();
  }, [isOpen]);
  const toggle = (): void => {
    if (menu.current?.matches(":popover-open")) menu.current.hidePopover();
    else if (isOpen) show();
    else setIsOpen(true);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const all = choices();
    const at = all.findIndex((item) => item === document.activeElement);
    const to = { ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Tab") menu.current?.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    all[to]?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class={`icon-button ${className}`}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={isOpen}
        popovertarget={id}
        onClick={(event) => {
          // The browser would show it before it has items.
          event.preventDefault();
          toggle();
        }}
      >
        <Icon name={icon} />
      </button>
      <div
        ref={menu}
        id={id}
        popover="auto"
        role="menu"
        aria-label={label}
        class="popup"
        onToggle={({ newState }) => setIsOpen(newState === "open")}
        onKeyDown={onKeyDown}
      >
        {(isOpen ? items : []).map(({ name, icon: itemIcon, danger = false, run }) => (
          <button
            key={name}
            type="button"
            role="menuitem"
            tabIndex={-1}
            class={danger ? "danger" : ""}
            onClick={() => {
              menu.current?.hidePopover();
              run();
            }}
          >
            <Icon name={itemIcon} /> {name}
          </button>
        ))}
      </div>
    </>
  );
}
