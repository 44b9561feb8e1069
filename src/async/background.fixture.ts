/** What runs beside a test. */
export interface Background extends AsyncDisposable {
  /** Aborts its signal and waits for its end; may be called again. */
  readonly stop: () => Promise<void>;
}

/**
 * Runs something until it is stopped or disposed of. Use it with `await using`: what a failed assertion left running
 * would keep the process of the tests alive, which then hangs instead of failing.
 */
export function inBackground(run: (signal: AbortSignal) => Promise<unknown>): Background {
  const controller = new AbortController();
  const running = run(controller.signal);
  const stop = async () => {
    controller.abort();
    await running;
  };
  return { stop, [Symbol.asyncDispose]: stop };
}
