/** What a backend is asked: the path on the page, and the settings. */
import type { ChatMessage } from "@shoal/web";
import type { BackendRequest } from "../backend.ts";
import type { Message } from "../conversations/tree.ts";
import type { Settings } from "../settings/saved.ts";

export function requestOf(path: readonly Message[], settings: Settings): BackendRequest {
  const { system, temperature, topP, topK, minP, maxTokens, seed } = settings;
  const said = path.filter(({ content, toolCalls }) => content !== "" || toolCalls !== undefined).map(sentMessage);
  return {
    messages: system.trim() === "" ? said : [{ role: "system", content: system }, ...said],
    stream: true,
    stream_options: { include_usage: true },
    temperature,
    top_p: topP,
    max_tokens: maxTokens,
    // Not OpenAI's: servers that do not know them refuse them, even with the value that changes nothing.
    ...(topK > 0 && { top_k: topK }),
    ...(minP > 0 && { min_p: minP }),
    ...(seed !== null && { seed }),
  };
}

/** Models are not to see the reasoning of earlier answers. */
function sentMessage({ role, content, toolCalls, toolCallId }: Message): ChatMessage {
  return {
    role,
    content,
    ...(toolCalls && {
      tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } })),
    }),
    ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
  };
}
