import { describe, expect, it, vi } from "vitest";
import { Interrupts } from "./interrupts.ts";

const forever = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));

describe("Interrupts", () => {
  it("aborts the command first and ends the process at the second interrupt", () => {
    const exit = vi.fn<() => void>();
    const interrupts = new Interrupts(exit);
    interrupts.interrupt();
    expect(interrupts.signal.aborted).toBe(true);
    expect(exit).not.toHaveBeenCalled();
    interrupts.interrupt();
    expect(exit).toHaveBeenCalledOnce();
  });

  it("ends the process when the command does not end by itself", () => {
    vi.useFakeTimers();
    try {
      const exit = vi.fn<() => void>();
      new Interrupts(exit).interrupt();
      vi.advanceTimersByTime(5000);
      expect(exit).toHaveBeenCalledOnce();
    } finally {
      vi.useRealTimers();
    }
  });

  it("stops only what may be stopped by itself, and the command at the next interrupt", async () => {
    const interrupts = new Interrupts(() => {});
    const running = interrupts.stoppable(forever);
    interrupts.interrupt();
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
    expect(interrupts.signal.aborted).toBe(false);
    interrupts.interrupt();
    expect(interrupts.signal.aborted).toBe(true);
  });

  it("does not wait for work that ignores its signal when the command is interrupted", async () => {
    const interrupts = new Interrupts(() => {});
    const running = interrupts.stoppable(() => new Promise(() => {}));
    interrupts.interrupt();
    interrupts.interrupt();
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
  });
});
