/** The npm package `safetensors` has no types. It takes a view whose buffer starts with the file. */
declare module "safetensors" {
  export class SafeTensor {
    constructor(buffer: Uint8Array);
    readonly metadata: Map<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
    getTensor(name: string): Uint8Array;
  }
}
