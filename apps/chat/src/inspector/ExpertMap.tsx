/** A row a layer, a column an expert: bright where it was chosen lately, outlined where it was for the last token that was looked at. */
import type { Inspection } from "@shoal/web";
import { useEffect, useRef } from "preact/hooks";
import type { LayerHeat } from "./heat.ts";

interface ExpertMapProps {
  readonly layers: readonly LayerHeat[];
  readonly inspection: Pick<Inspection, "nRoutedExperts" | "nActivatedExperts">;
}

/** CSS pixels. */
const WIDTH = 352;
const ROW = 9;
const GAP = 1;

export function ExpertMap({ layers, inspection: { nRoutedExperts, nActivatedExperts } }: ExpertMapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const height = Math.max(1, layers.length) * ROW;
  const drawn = useRef<{ readonly layers: readonly LayerHeat[]; readonly colours: string } | null>(null);
  // Light and dark change without a word to the map, which is looked at a few times a second.
  useEffect(() => {
    if (!canvas.current) return;
    const colours = coloursOf(canvas.current);
    if (drawn.current?.layers === layers && drawn.current.colours === colours.join()) return;
    drawn.current = { layers, colours: colours.join() };
    draw(canvas.current, layers, nRoutedExperts, colours);
  });
  const last = layers.at(-1);
  return (
    <>
      {layers.length === 0 ? (
        <p class="quiet">
          Ask something: each answer shows which of {nRoutedExperts} experts every layer chooses, {nActivatedExperts} for each token.
        </p>
      ) : (
        <>
          <canvas
            ref={canvas}
            class="expert-map"
            role="img"
            aria-label={`Experts chosen lately in ${layers.length} layers of ${nRoutedExperts} experts`}
            style={{ aspectRatio: `${WIDTH} / ${height}` }}
          />
          <p class="quiet">
            Layers {layers[0]?.layer} to {last?.layer}, top to bottom; experts 0 to {nRoutedExperts - 1}, left to right. Last token, last
            layer: {last ? [...last.last].join(", ") : ""}.
          </p>
        </>
      )}
    </>
  );
}

/** Of an expert that was not chosen, of one that was, and of the last token's. */
function coloursOf(canvas: HTMLCanvasElement): readonly string[] {
  const { borderTopColor, color, outlineColor } = getComputedStyle(canvas);
  return [borderTopColor, color, outlineColor];
}

function draw(canvas: HTMLCanvasElement, layers: readonly LayerHeat[], experts: number, [back, accent, mark]: readonly string[]): void {
  const scale = Math.min(2, devicePixelRatio);
  canvas.width = WIDTH * scale;
  canvas.height = layers.length * ROW * scale;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(scale, scale);
  const step = WIDTH / experts;
  const width = Math.max(0.5, step - (step > 3 ? GAP : 0));
  for (const [row, { heat, last }] of layers.entries()) {
    const y = row * ROW;
    for (const [expert, value] of heat.entries()) {
      context.globalAlpha = 1;
      context.fillStyle = back ?? "";
      context.fillRect(expert * step, y, width, ROW - GAP);
      // The eye sees differences of small values best on a curve.
      context.globalAlpha = Math.sqrt(value);
      context.fillStyle = accent ?? "";
      context.fillRect(expert * step, y, width, ROW - GAP);
    }
    context.globalAlpha = 1;
    context.strokeStyle = mark ?? "";
    for (const expert of last) context.strokeRect(expert * step + 0.5, y + 0.5, Math.max(0.5, width - 1), ROW - GAP - 1);
  }
}
