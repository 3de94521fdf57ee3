/** As in `public/icon.svg`. */
export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 64 64" aria-hidden="true" focusable="false">
      <rect width="64" height="64" rx="16" />
      <path d="M10 24q10-9 20 0l6-5v10l-6-5q-10 9-20 0z" />
      <path d="M28 40q10-9 20 0l6-5v10l-6-5q-10 9-20 0z" />
    </svg>
  );
}
