/** The conversation that is open, as a column that follows what is being written unless a person scrolled away from it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { IconButton } from "../shell/IconButton.tsx";
import { Announcer } from "./Announcer.tsx";
import type { ChatState } from "./chatState.ts";
import { MessageView } from "./MessageView.tsx";
import { Welcome } from "./Welcome.tsx";

/** Nearer to the end than this counts as at it. Pixels. */
const NEAR = 60;

export function Messages({ chat }: { readonly chat: ChatState }) {
  const scroller = useRef<HTMLDivElement>(null);
  const column = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [isAway, setIsAway] = useState(false);
  const path = chat.path.value;
  const toEnd = (): void => {
    const { current } = scroller;
    if (current) current.scrollTop = current.scrollHeight;
  };
  useEffect(() => {
    const { current } = column;
    if (!current) return;
    const observer = new ResizeObserver(() => {
      if (follows.current) toEnd();
    });
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  // Another conversation, and a question of one's own, are looked at from their end.
  useEffect(() => {
    follows.current = true;
    setIsAway(false);
    toEnd();
  }, [chat.openId.value, chat.writing.value?.messageId]);
  const onScroll = (): void => {
    const { current } = scroller;
    if (!current) return;
    follows.current = current.scrollHeight - current.scrollTop - current.clientHeight < NEAR;
    setIsAway(!follows.current);
  };
  return (
    <div class="scroll-area">
      <div ref={scroller} class="scroller" onScroll={onScroll} tabIndex={-1}>
        <div ref={column} class="messages">
          {path.length === 0 && <Welcome chat={chat} />}
          {path.map((message) => (
            <MessageView key={message.id} chat={chat} message={message} />
          ))}
        </div>
      </div>
      {isAway && (
        <IconButton
          icon="down"
          label="To the latest"
          class="to-end"
          onClick={() => {
            follows.current = true;
            setIsAway(false);
            toEnd();
          }}
        />
      )}
      <Announcer chat={chat} />
    </div>
  );
}
