/** Hands a text to the person as a file. */
export function saveFile(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replaceAll(/[\\/:*?"<>|\p{Cc}]/gu, " ").trim();
  link.click();
  // The download has begun with the click; the address may go when the browser is done with it.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
