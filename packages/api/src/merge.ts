/** Several streams read at once: items come in the order in which they arrive, with the place of their stream. */
export async function* merge<T>(
  streams: readonly AsyncIterator<T, void>[],
): AsyncGenerator<{ readonly index: number; readonly item: T }, void> {
  type Turn = { readonly index: number; readonly result: IteratorResult<T, void> };
  const next = async (index: number, stream: AsyncIterator<T, void>): Promise<Turn> => ({ index, result: await stream.next() });
  const turns = new Map(streams.map((stream, index) => [index, next(index, stream)]));
  try {
    while (turns.size > 0) {
      const { index, result } = await Promise.race(turns.values());
      const stream = streams[index];
      if (result.done === true || !stream) {
        turns.delete(index);
        continue;
      }
      turns.set(index, next(index, stream));
      yield { index, item: result.value };
    }
  } finally {
    // A stream that waits ends when its signal fires; nobody hears what it says then.
    for (const [index, turn] of turns) {
      turn.catch(() => {});
      streams[index]?.return?.()?.catch(() => {});
    }
  }
}
