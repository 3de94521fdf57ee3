/**
 * Chat templates, one per family of DeepSeek models, as Jinja text: for checkpoints that bring none, and for chats with tools where the
 * checkpoint's own does not show tools to the model (V3's and R1's only render calls and results, and leave the end of a single call out).
 *
 * Marks and turns are those of the published templates. Of V3.1 the words that introduce tools are the published ones too, for the model was
 * trained on them; for V3 and R1 none were published.
 */
import { toolMarks, toolOutputMarks } from "../tool-format.ts";

export type TemplateFamily = "v3" | "r1" | "v3.1";

const { callsBegin, callsEnd, callBegin, callEnd, separator } = toolMarks;
const { outputsBegin, outputsEnd, outputBegin, outputEnd } = toolOutputMarks;

/** BOS, then all system texts one blank line apart; no mark of a role before them. `tools` writes what follows where there are tools. */
function opening(tools: string): string {
  return (
    `{%- set systems = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list -%}` +
    String.raw`{{- bos_token + (systems | join('\n\n')) -}}` +
    `{%- if tools -%}${tools}{%- endif -%}`
  );
}

interface Turns {
  readonly tools: string;
  /** Expression for a past answer's mark, its text and its calls. */
  readonly mark: string;
  readonly reply: string;
  /** Statements that write `call`, with its arguments as `arguments`. */
  readonly call: string;
  /** Written before the first tool result of a run, before the others, and after the last. */
  readonly outputs: readonly [begin: string, between: string, end: string];
  /** Expression for what the model is to go on from after a message of the user. */
  readonly answer: string;
}

/** Tool results are part of the answer's turn: the model goes on after them without a new mark. */
function turns({ tools, mark, reply, call, outputs: [begin, between, end], answer }: Turns): string {
  const close = `{{- '${end}' if ns.outputs else '' -}}`;
  const role = (name: string): string => `message['role'] == '${name}'`;
  return (
    `${opening(tools)}{%- set ns = namespace(outputs=false) -%}{%- for message in messages -%}` +
    `{%- if ${role("user")} -%}${close}{%- set ns.outputs = false -%}{{- '<｜User｜>' + message['content'] -}}` +
    `{%- elif ${role("tool")} -%}{{- ('${between}' if ns.outputs else '${begin}') + '${outputBegin}' + message['content'] + '${outputEnd}' -}}` +
    `{%- set ns.outputs = true -%}` +
    `{%- elif ${role("assistant")} and (message['content'] is not none or message['tool_calls']) -%}` +
    `{{- '${end}' if ns.outputs else ${mark} -}}{%- set ns.outputs = false -%}` +
    `{{- ${reply} if message['content'] is not none else '' -}}` +
    `{%- if message['tool_calls'] -%}{{- '${callsBegin}' -}}{%- for call in message['tool_calls'] -%}` +
    `{%- set arguments = call['function']['arguments'] -%}` +
    `{%- set arguments = arguments if arguments is string else arguments | tojson -%}${call}{%- endfor -%}{{- '${callsEnd}' -}}{%- endif -%}` +
    `{{- eos_token -}}{%- endif -%}{%- endfor -%}` +
    `${close}{%- if add_generation_prompt and not ns.outputs -%}{{- ${answer} -}}{%- endif -%}`
  );
}

const fencedCall =
  String.raw`{{- ('' if loop.first else '\n') + '${callBegin}function${separator}' + call['function']['name'] + '\n` +
  "```json" +
  String.raw`\n' + arguments + '\n` +
  `\`\`\`${callEnd}' -}}`;

const plainCall = `{{- '${callBegin}' + call['function']['name'] + '${separator}' + arguments + '${callEnd}' -}}`;

const fencedTools =
  String.raw`{{- '\n\n## Tools\n\nThese functions can be called. Each is given by its name, its purpose and a JSON Schema of its arguments:\n' -}}` +
  String.raw`{%- for tool in tools -%}{{- '\n' + (tool['function'] | tojson) -}}{%- endfor -%}` +
  String.raw`{{- '\n\nTo call functions, write nothing but the calls, in this form, each further call on a new line:\n\n${callsBegin}' -}}` +
  String.raw`{{- '${callBegin}function${separator}FUNCTION_NAME\n` +
  "```json" +
  String.raw`\n{"ARGUMENT": "VALUE"}\n` +
  String.raw`${"```"}${callEnd}${callsEnd}\n\nThe arguments are one JSON object that follows the schema.' -}}`;

/** As in DeepSeek-V3.1's assets/chat_template.jinja. */
const plainTools =
  String.raw`{{- '\n\n## Tools\nYou have access to the following tools:\n' -}}{%- for tool in tools -%}` +
  String.raw`{{- '\n### ' + tool['function']['name'] + '\nDescription: ' + (tool['function']['description'] | default('')) -}}` +
  String.raw`{{- '\n\nParameters: ' + ((tool['function']['parameters'] | default({'type': 'object', 'properties': {}})) | tojson) + '\n' -}}{%- endfor -%}` +
  String.raw`{{- '\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n${callsBegin}${callBegin}tool_call_name${separator}' -}}` +
  String.raw`{{- 'tool_call_arguments${callEnd}{{additional_tool_calls}}${callsEnd}\n\nWhere:\n\n' -}}` +
  String.raw`{{- '- ${"`tool_call_name`"} must be an exact match to one of the available tools\n' -}}` +
  String.raw`{{- '- ${"`tool_call_arguments`"} must be valid JSON that strictly follows the tool\'s Parameters Schema\n' -}}` +
  String.raw`{{- '- For multiple tool calls, chain them directly without separators or spaces\n' -}}`;

const fenced = {
  tools: fencedTools,
  mark: "'<｜Assistant｜>'",
  call: fencedCall,
  outputs: [outputsBegin, String.raw`\n`, outputsEnd],
} as const;

/** Reasoning of past answers is not shown to the model again. */
const withoutReasoning = `message['content'].split('</think>')[-1]`;

export const familyTemplates: Readonly<Record<TemplateFamily, string>> = {
  v3: turns({ ...fenced, reply: "message['content']", answer: "'<｜Assistant｜>'" }),
  // Its later revisions open the reasoning themselves, since the model sometimes skipped it.
  r1: turns({ ...fenced, reply: withoutReasoning, answer: String.raw`'<｜Assistant｜><think>\n'` }),
  // One model for both modes: an empty reasoning part says that none is wanted.
  "v3.1": turns({
    tools: plainTools,
    mark: "'<｜Assistant｜></think>'",
    reply: withoutReasoning,
    call: plainCall,
    outputs: ["", "", ""],
    answer: `'<｜Assistant｜>' + ('<think>' if thinking else '</think>')`,
  }),
};

/** The family whose turns a checkpoint's template writes. */
export function familyOf(source: string): TemplateFamily {
  if (/\bthinking\b/u.test(source)) return "v3.1";
  return source.includes("</think>") ? "r1" : "v3";
}
