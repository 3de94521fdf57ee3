/** A number with its range: a slider for the hand, a field for exactness. */
import { useId } from "preact/hooks";
import { RANGES, type RangedSetting, within } from "./saved.ts";

interface NumberSettingProps {
  readonly name: RangedSetting;
  readonly label: string;
  readonly hint: string;
  readonly value: number;
  readonly onChange: (value: number) => void;
}

export function NumberSetting({ name, label, hint, value, onChange }: NumberSettingProps) {
  const id = useId();
  const range = RANGES[name];
  const take = (wanted: number): void => onChange(within(name, wanted) ?? value);
  return (
    <div class="setting">
      <label for={id}>{label}</label>
      <input
        class="number"
        id={id}
        type="number"
        {...range}
        value={value}
        aria-describedby={`${id}-hint`}
        onChange={({ currentTarget }) => {
          take(currentTarget.valueAsNumber);
          currentTarget.value = String(within(name, currentTarget.valueAsNumber) ?? value);
        }}
      />
      <input
        type="range"
        {...range}
        value={value}
        aria-label={`${label}, as a slider`}
        onInput={({ currentTarget }) => take(currentTarget.valueAsNumber)}
      />
      <p id={`${id}-hint`} class="hint">
        {hint}
      </p>
    </div>
  );
}
