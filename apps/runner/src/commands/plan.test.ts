import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { FakeTerminal } from "../../test/fakeTerminal.ts";
import { Interrupts } from "../interrupts.ts";
import type { Values } from "../options.ts";
import { planCommand } from "./plan.ts";

const root = fileURLToPath(new URL("../../../../", import.meta.url));
const config = `${root}configs/config_671B.json`;
const folder = mkdtempSync(join(tmpdir(), "shoal-plan-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function plan({
  devices,
  ...rest
}: Omit<Values, "devices"> & { readonly devices?: string }): Promise<{ readonly code: number; readonly output: string }> {
  const terminal = new FakeTerminal({});
  const values: Values = { ...rest, ...(devices !== undefined && { devices: [devices] }) };
  const code = await planCommand.run({ values, words: [], terminal, interrupts: new Interrupts(() => undefined) });
  return { code, output: terminal.output };
}

function fleetFile(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe("shoal plan", () => {
  const devices = `${root}configs/fleets/example.json`;

  it("prints every stage, the predicted speeds and the reasons", async () => {
    const { code, output } = await plan({ config, devices });
    expect(code).toBe(0);
    for (const expected of ["gpu0", "desktop0", "decode", "prefill", "tokens/s", "Why:", "no device holds the model alone"])
      expect(output).toContain(expected);
  });

  it("prints the same as JSON: every layer once, speeds from seconds", async () => {
    const gpu = (name: string) => ({ name, memoryBytes: 24e9, bytesPerSecond: 8e11, flopsPerSecond: 1e14 });
    const defaultLink = { latencySeconds: 1e-4, bytesPerSecond: 1e9 };
    const pair = fleetFile("pair.json", JSON.stringify({ devices: [gpu("one"), gpu("two")], defaultLink }));
    const { output } = await plan({ config: `${root}configs/config_16B.json`, devices: pair, json: true });
    const printed = JSON.parse(output) as {
      readonly stages: readonly { readonly begin: number; readonly end: number }[];
      readonly decodeSeconds: number;
      readonly decodeTokensPerSecond: number;
    };
    expect(printed.stages.map(({ begin }) => begin)).toEqual([0, ...printed.stages.slice(0, -1).map(({ end }) => end)]);
    expect(printed.stages.at(-1)?.end).toBe(27);
    expect(printed.decodeTokensPerSecond * printed.decodeSeconds).toBeCloseTo(1, 9);
  });

  it("fails where the model does not fit, and says how much is missing", async () => {
    const small = { name: "small", memoryBytes: 8e9, bytesPerSecond: 1e11, flopsPerSecond: 1e12 };
    const file = fleetFile("small.json", JSON.stringify({ devices: [small] }));
    await expect(plan({ config, devices: file })).rejects.toThrow(/Cannot fit the model: .* GB are missing/);
  });

  it("names what is wrong with a file of devices", async () => {
    await expect(plan({ config, devices: fleetFile("text.json", "gpu0") })).rejects.toThrow("it is no JSON");
    await expect(plan({ config, devices: fleetFile("none.json", '{"devices":[]}') })).rejects.toThrow("'devices'");
    await expect(plan({ config, devices: join(folder, "absent.json") })).rejects.toThrow("it does not exist");
    await expect(plan({ config })).rejects.toThrow("expected '--devices FILE'");
    await expect(plan({ devices })).rejects.toThrow("expected '--config FILE'");
  });
});
