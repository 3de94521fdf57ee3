/** A modal dialog: the browser's own keeps the focus inside, closes on Escape and gives the focus back. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { COMPOSER_ID } from "../chat/Composer.tsx";
import { IconButton } from "./IconButton.tsx";

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

/** Open as long as it is there. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      // The browser has given it back, or a person has moved it on since.
      if (document.activeElement !== document.body && !dialog.current?.contains(document.activeElement)) return;
      if (opener instanceof HTMLElement && opener.checkVisibility({ visibilityProperty: true })) opener.focus();
      else document.getElementById(COMPOSER_ID)?.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onClose={onClose}
      onClick={({ target, currentTarget }) => {
        // The backdrop belongs to the dialog; all else in it lies in the box.
        if (target === currentTarget) currentTarget.close();
      }}
    >
      <div class="dialog-box">
        <div class="dialog-head">
          <h2>{title}</h2>
          <IconButton icon="close" label="Close" onClick={() => dialog.current?.close()} />
        </div>
        {children}
      </div>
    </dialog>
  );
}
