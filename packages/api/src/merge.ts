/** Several streams read at once: items come in the order in which they arrive, with the place of their stream. */
export async function* merge<T>(
  streams: readonly AsyncIterator<T, void>[],
): AsyncGenerator<{ readonly index: number; readonly item: T }, void> {
  type Turn = { readonly index: number; readonly result: IteratorResult<T, void> };
  const next = (index: number, stream: AsyncIterator<T, void>): Promise<Turn> => {
    const turn = stream.next().then((result) => ({ index, result }));
    // It may fail while the reader is busy, or has gone: it hears of it at its next turn, if there is one.
    turn.catch(() => {});
    return turn;
  };
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
    for (const index of turns.keys()) streams[index]?.return?.()?.catch(() => {});
  }
}
