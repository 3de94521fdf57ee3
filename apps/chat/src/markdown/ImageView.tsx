/**
 * A picture that a model names is not fetched: the request alone would tell its server what was said here. The page's policy forbids it, and this shows where it lies.
 * A picture inside the text is shown.
 */
import { Icon } from "../shell/Icon.tsx";

export function ImageView({ src, alt }: { readonly src: string; readonly alt: string }) {
  if (src.startsWith("data:")) return <img src={src} alt={alt} />;
  const host = URL.canParse(src) ? new URL(src).host : src.slice(0, 60);
  return (
    <a class="image-link" href={src} target="_blank" rel="noopener noreferrer" title={src}>
      <Icon name="image" /> {alt === "" ? "Picture" : alt} <span class="quiet">at {host}, not loaded</span>
    </a>
  );
}
