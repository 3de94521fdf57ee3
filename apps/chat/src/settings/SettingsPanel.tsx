/** How the model answers, and how the page looks. */
import type { AppState } from "../appState.ts";
import type { Places } from "../places.ts";
import { RANGES, type Theme } from "./saved.ts";

const LABELS = { temperature: "Temperature", topP: "Top-p", topK: "Top-k (0: off)", maxTokens: "Most tokens in an answer" } as const;
const NAMES = ["temperature", "topP", "topK", "maxTokens"] as const;

interface SettingsPanelProps {
  readonly app: AppState;
  readonly places: Places;
}

export function SettingsPanel({ app, places: { backend: Backend } }: SettingsPanelProps) {
  const { chat } = app;
  const settings = chat.settings.value;
  return (
    <div class="settings">
      <label>
        System prompt
        <textarea rows={3} value={settings.system} onChange={({ currentTarget }) => chat.change({ system: currentTarget.value })} />
      </label>
      {NAMES.map((name) => (
        <label key={name}>
          {LABELS[name]}
          <input
            type="number"
            {...RANGES[name]}
            value={settings[name]}
            onChange={({ currentTarget }) => {
              const { min, max } = RANGES[name];
              const wanted = currentTarget.valueAsNumber;
              const value = Number.isNaN(wanted) ? settings[name] : Math.min(max, Math.max(min, wanted));
              const whole = name === "topK" || name === "maxTokens";
              chat.change({ [name]: whole ? Math.round(value) : value });
              currentTarget.value = String(chat.settings.value[name]);
            }}
          />
        </label>
      ))}
      <label>
        Theme
        <select value={settings.theme} onChange={({ currentTarget }) => chat.change({ theme: currentTarget.value as Theme })}>
          <option value="system">As the system</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
      {Backend && <Backend app={app} />}
    </div>
  );
}
