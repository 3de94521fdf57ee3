import type { Terminal } from "../src/terminal.ts";

/** Keeps what is written. */
export class FakeTerminal implements Terminal {
  readonly inIsTerminal: boolean;
  readonly outIsTerminal = false;
  readonly errIsTerminal: boolean;
  output = "";
  errors = "";

  constructor({ inIsTerminal = false, errIsTerminal = false }: { readonly inIsTerminal?: boolean; readonly errIsTerminal?: boolean }) {
    this.inIsTerminal = inIsTerminal;
    this.errIsTerminal = errIsTerminal;
  }

  columns(): number {
    return 120;
  }

  out(text: string): void {
    this.output += text;
  }

  err(text: string): void {
    this.errors += text;
  }

  readAll(): Promise<string> {
    return Promise.resolve("");
  }
}
