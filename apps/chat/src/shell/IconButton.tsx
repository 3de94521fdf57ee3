import { Icon, type IconName } from "./Icon.tsx";

type IconButtonProps = Omit<preact.JSX.IntrinsicElements["button"], "icon"> & { readonly icon: IconName; readonly label: string };

/** A button that is only an icon: its label is read out, and shown on hover. */
export function IconButton({ icon, label, class: className, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      {...rest}
      class={`icon-button ${typeof className === "string" ? className : ""}`}
    >
      <Icon name={icon} />
    </button>
  );
}
