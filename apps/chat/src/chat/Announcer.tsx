/** Tells screen readers that an answer is being written and, when it is there, what it says; not every token of it. */
import { useEffect, useState } from "preact/hooks";
import type { ChatState } from "./chatState.ts";

/** The rest is in the message itself. */
const SPOKEN = 600;
const STILL_MS = 15_000;

export function Announcer({ chat }: { readonly chat: ChatState }) {
  const [said, setSaid] = useState("");
  const messageId = chat.writing.value?.messageId;
  useEffect(() => {
    if (messageId === undefined) return;
    setSaid("The model is answering.");
    let times = 0;
    const timer = setInterval(() => setSaid(`Still answering${".".repeat((times++ % 3) + 1)}`), STILL_MS);
    return () => {
      clearInterval(timer);
      const message = chat.path.peek().find(({ id }) => id === messageId);
      if (!message) return;
      const { content, end, error = "" } = message;
      const start = content.length > SPOKEN ? `${content.slice(0, SPOKEN)}… The answer is longer.` : content;
      setSaid(end === "failed" ? `The answer broke off. ${error}` : `Answer: ${start}`);
    };
  }, [messageId]);
  return (
    <p class="hidden" role="status">
      {said}
    </p>
  );
}
