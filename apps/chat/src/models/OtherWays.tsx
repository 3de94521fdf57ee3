/** Where one way does not work there is another: a model that fits, or a server. */
import type { AppState } from "../appState.ts";

export function OtherWays({ app: { view } }: { readonly app: AppState }) {
  return (
    <>
      {view.screen.value !== "models" && (
        <button type="button" onClick={() => view.show("models")}>
          Other models
        </button>
      )}
      <button type="button" onClick={() => (view.settingsOpen.value = true)}>
        Use a server
      </button>
    </>
  );
}
