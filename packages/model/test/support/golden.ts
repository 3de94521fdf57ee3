/** The golden fixtures (`fixtures/README.md`) as typed arrays by tensor name. */
import { openSafetensors } from "@shoal/safetensors";
import { fileSource } from "@shoal/safetensors/file";

export const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

export class Golden {
  readonly #floats: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  readonly #ints: ReadonlyMap<string, Int32Array<ArrayBuffer>>;

  constructor(floats: ReadonlyMap<string, Float32Array<ArrayBuffer>>, ints: ReadonlyMap<string, Int32Array<ArrayBuffer>>) {
    this.#floats = floats;
    this.#ints = ints;
  }

  has(name: string): boolean {
    return this.#floats.has(name) || this.#ints.has(name);
  }

  floats(name: string): Float32Array<ArrayBuffer> {
    const values = this.#floats.get(name);
    if (!values) throw new RangeError(`The fixture has no floats '${name}'`);
    return values;
  }

  ints(name: string): readonly number[] {
    const values = this.#ints.get(name);
    if (!values) throw new RangeError(`The fixture has no integers '${name}'`);
    return [...values];
  }
}

/** Reads one file whole: the largest has 2 MB. */
export async function readGolden(file: string): Promise<Golden> {
  const tensors = await openSafetensors(await fileSource(`${FIXTURES}${file}`));
  try {
    const floats = new Map<string, Float32Array<ArrayBuffer>>();
    const ints = new Map<string, Int32Array<ArrayBuffer>>();
    for (const [name, { dtype }] of tensors.tensors) {
      // Copied: a tensor's bytes need not be aligned.
      const bytes = new Uint8Array(await tensors.readTensor(name)).slice().buffer;
      if (dtype === "F32") floats.set(name, new Float32Array(bytes));
      else if (dtype === "I32") ints.set(name, new Int32Array(bytes));
    }
    return new Golden(floats, ints);
  } finally {
    await tensors.close();
  }
}
