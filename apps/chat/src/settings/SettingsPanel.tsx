/** How the model answers, how the page looks, and what becomes of the conversations. */
import type { AppState } from "../appState.ts";
import type { ChatState } from "../chat/chatState.ts";
import { MAX_IMPORT_BYTES, toJson } from "../conversations/files.ts";
import type { Places } from "../places.ts";
import { saveFile } from "../shell/saveFile.ts";
import { NumberSetting } from "./NumberSetting.tsx";
import { DEFAULT_SETTINGS, MAX_SEED, MAX_SYSTEM, type Theme } from "./saved.ts";

interface SettingsPanelProps {
  readonly app: AppState;
  readonly places: Places;
}

const NUMBERS = [
  ["temperature", "Temperature", "0 always takes the likeliest token; about 0.6 is lively, above 1 loosens sense."],
  ["topP", "Top-p", "Only the likeliest tokens that together have this share of the probability. 1: all."],
  ["topK", "Top-k", "Only as many of the likeliest tokens. 0: all."],
  ["minP", "Min-p", "Only tokens at least this share as likely as the likeliest. 0: all."],
  ["maxTokens", "Longest answer", "In tokens, reasoning included."],
] as const;

const THEMES: readonly (readonly [Theme, string])[] = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function SettingsPanel({ app, places: { backend: Backend } }: SettingsPanelProps) {
  const { chat } = app;
  const settings = chat.settings.value;
  return (
    <div class="settings">
      <section aria-labelledby="settings-look">
        <h3 id="settings-look">Look</h3>
        <fieldset class="themes">
          <legend class="hidden">Theme</legend>
          {THEMES.map(([theme, name]) => (
            <label key={theme}>
              <input type="radio" name="theme" checked={settings.theme === theme} onChange={() => chat.change({ theme })} />
              <span>{name}</span>
            </label>
          ))}
        </fieldset>
      </section>
      {Backend && (
        <section aria-labelledby="settings-backend">
          <h3 id="settings-backend">What answers</h3>
          <Backend app={app} />
        </section>
      )}
      <section aria-labelledby="settings-answers">
        <h3 id="settings-answers">Answers</h3>
        <label class="setting wide">
          System prompt
          <textarea
            rows={4}
            maxLength={MAX_SYSTEM}
            placeholder="Said to the model before every conversation: who it is, how it should answer."
            value={settings.system}
            onChange={({ currentTarget }) => chat.change({ system: currentTarget.value })}
          />
        </label>
        {NUMBERS.map(([name, label, hint]) => (
          <NumberSetting
            key={name}
            name={name}
            label={label}
            hint={hint}
            value={settings[name]}
            onChange={(value) => chat.change({ [name]: value })}
          />
        ))}
        <label class="setting">
          Seed
          <input
            class="number"
            type="number"
            min={0}
            max={MAX_SEED}
            step={1}
            placeholder="Any"
            value={settings.seed ?? ""}
            onChange={({ currentTarget }) => {
              const wanted = Math.round(currentTarget.valueAsNumber);
              chat.change({ seed: Number.isNaN(wanted) ? null : Math.min(MAX_SEED, Math.max(0, wanted)) });
            }}
          />
        </label>
        <p class="hint">The same seed gives the same answer to the same words. Empty: another each time.</p>
        <button
          type="button"
          onClick={() => {
            const { theme, system } = settings;
            chat.change({ ...DEFAULT_SETTINGS, theme, system });
          }}
        >
          Reset these numbers
        </button>
      </section>
      <Data chat={chat} onDone={() => (app.view.settingsOpen.value = false)} />
    </div>
  );
}

function Data({ chat, onDone }: { readonly chat: ChatState; readonly onDone: () => void }) {
  const all = chat.conversations.value;
  return (
    <section aria-labelledby="settings-data">
      <h3 id="settings-data">Conversations</h3>
      <p class="hint">They lie in this browser and nowhere else. Importing adds to them; a file that cannot be read changes nothing.</p>
      <div class="buttons">
        <button type="button" disabled={all.length === 0} onClick={() => saveFile("conversations.json", "application/json", toJson(all))}>
          Export all
        </button>
        <label class="file">
          Import
          <input
            type="file"
            accept=".json,application/json"
            onChange={({ currentTarget }) => {
              onDone();
              void bringIn(chat, currentTarget);
            }}
          />
        </label>
        <button
          type="button"
          class="danger"
          disabled={all.length === 0}
          onClick={() => {
            onDone();
            chat.removeAll();
          }}
        >
          Delete all
        </button>
      </div>
    </section>
  );
}

async function bringIn(chat: ChatState, input: HTMLInputElement): Promise<void> {
  const [file] = input.files ?? [];
  if (!file) return;
  if (file.size > MAX_IMPORT_BYTES) chat.say(`Cannot import the file: it has ${file.size} bytes, expected at most ${MAX_IMPORT_BYTES}`);
  else chat.import(await file.text());
  // The same file may be chosen again.
  input.value = "";
}
