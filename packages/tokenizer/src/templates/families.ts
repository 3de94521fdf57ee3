/**
 * Chat templates for checkpoints that bring none, one per family of DeepSeek models, as Jinja text. They write plain turns: tools have a
 * layout of their own in every family and need the checkpoint's template. Written from the formats' description, not copied.
 */

export type TemplateFamily = "v3" | "r1" | "v3.1";

/** BOS, then all system texts one blank line apart; no mark of a role before them. */
const opening =
  `{%- set systems = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list -%}` +
  String.raw`{{- bos_token + (systems | join('\n\n')) -}}`;

/** `reply` is the expression for a past answer; `answer` is what the model is to go on from. */
function turns(reply: string, answer: string): string {
  return (
    `${opening}{%- for message in messages -%}` +
    `{%- if message['role'] == 'user' -%}{{- '<｜User｜>' + message['content'] -}}` +
    `{%- elif message['role'] == 'assistant' and message['content'] is not none -%}{{- ${reply} + eos_token -}}` +
    `{%- endif -%}{%- endfor -%}` +
    `{%- if add_generation_prompt -%}{{- ${answer} -}}{%- endif -%}`
  );
}

/** Reasoning of past answers is not shown to the model again. */
const withoutReasoning = `message['content'].split('</think>')[-1]`;

export const familyTemplates: Readonly<Record<TemplateFamily, string>> = {
  v3: turns(`'<｜Assistant｜>' + message['content']`, `'<｜Assistant｜>'`),
  // Its later revisions open the reasoning themselves, since the model sometimes skipped it.
  r1: turns(`'<｜Assistant｜>' + ${withoutReasoning}`, String.raw`'<｜Assistant｜><think>\n'`),
  // One model for both modes: an empty reasoning part says that none is wanted.
  "v3.1": turns(`'<｜Assistant｜></think>' + ${withoutReasoning}`, `'<｜Assistant｜>' + ('<think>' if thinking else '</think>')`),
};
