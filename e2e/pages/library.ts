import { createEngine } from "@shoal/web";
const engine = await createEngine({ model: "/model/" });
const messages = [{ role: "user", content: "What is the capital of France?" }] as const;
const answer = await engine.chat.completions.create({ messages, temperature: 0 });
document.body.append(answer.choices[0]?.message.content ?? "");
