/** A part of the page that is fetched when it is first shown. */
import { useSignal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  return function Lazy(props: P) {
    const loaded = useSignal<{ readonly Part: ComponentType<P> } | { readonly error: string } | null>(null);
    useEffect(() => {
      load().then(
        (Part) => (loaded.value = { Part }),
        (error: unknown) => (loaded.value = { error: error instanceof Error ? error.message : String(error) }),
      );
    }, []);
    const state = loaded.value;
    if (state === null) return <p class="quiet">Loading…</p>;
    if ("error" in state) return <p role="alert">Cannot load this part of the page: {state.error}</p>;
    return <state.Part {...props} />;
  };
}
