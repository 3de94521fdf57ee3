/**
 * A browser looks a typeface up when text first needs it, by name after name of the list, in calls that its main thread waits for. An answer's first words in bold, code and
 * formulas need many of them within one frame; here each is looked up ahead, in an idle moment of its own.
 */
const TEXT = ["", "italic", "600", "650", "700"];
/** By their names in `styles/tokens.css`, in the styles of what is shown as Markdown. */
const FACES = [
  ["--sans", TEXT],
  ["--mono", TEXT],
  ["--math", [""]],
] as const;

export function lookUpTypefaces(): void {
  const context = document.createElement("canvas").getContext("2d");
  if (!context) return;
  const styles = getComputedStyle(document.documentElement);
  const fonts = FACES.flatMap(([family, wanted]) => wanted.map((style) => `${style} 16px ${styles.getPropertyValue(family)}`));
  const next = (): void => {
    const font = fonts.shift();
    if (font === undefined) return;
    context.font = font;
    context.measureText("a");
    whenIdle(next);
  };
  whenIdle(next);
}

/** Not all browsers tell when they are. */
function whenIdle(run: () => void): void {
  if ("requestIdleCallback" in globalThis) requestIdleCallback(run, { timeout: 1000 });
  else setTimeout(run, 20);
}
