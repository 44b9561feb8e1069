import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { Socket } from 'node:net';

/** How a tool ended. */
export interface ToolEnd {
  readonly status: string;
  readonly stderr: string;
}

/** More than the C library keeps back of the output to a pipe. */
const filling = '.'.repeat(8000);
const maxStderrBytes = 10_000;

/**
 * A running tool that acts on its input line by line, and repeats comments in its output: a comment behind the input says
 * that it has been acted on.
 */
export class ReadyTool {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<string>;
  #inputs = 0;
  /** The end of the output. */
  #output = '';
  #stderr = '';
  #onOutput = (): void => undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(child: ChildProcessWithoutNullStreams, ended: Promise<string>) {
    this.#child = child;
    this.#ended = ended;
    // Who waits for it hears of it.
    ended.catch(() => undefined);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-2 * filling.length);
      this.#onOutput();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(0, maxStderrBytes);
    });
    // A tool that has ended is detected by its status.
    child.stdin.on('error', () => undefined);
    this.#holdOpen(false);
  }

  /**
   * Acts on a text of whole lines, after earlier ones; returns how the tool ended if it did, instead. Rejects if it could
   * not be started, or was aborted.
   */
  take(input: string, timeoutMs: number): Promise<ToolEnd | undefined> {
    const taken = this.#last.then(() => this.#take(input, timeoutMs));
    this.#last = taken.catch(() => undefined);
    return taken;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async #take(input: string, timeoutMs: number): Promise<ToolEnd | undefined> {
    const comment = `# input ${++this.#inputs} `;
    const timer = setTimeout(() => this.kill(), timeoutMs);
    this.#holdOpen(true);
    try {
      const done = new Promise<undefined>((resolve) => {
        this.#onOutput = () => {
          if (this.#output.includes(comment)) resolve(undefined);
        };
      });
      this.#child.stdin.write(`${input}${comment}${filling}\n`);
      const status = await Promise.race([done, this.#ended]);
      return status === undefined ? undefined : { status, stderr: this.#stderr };
    } finally {
      clearTimeout(timer);
      this.#holdOpen(false);
    }
  }

  /** An idle tool does not keep this program running. */
  #holdOpen(isBusy: boolean): void {
    for (const one of [this.#child, this.#child.stdin, this.#child.stdout, this.#child.stderr]) {
      if (!(one instanceof Socket) && one !== this.#child) continue;
      if (isBusy) one.ref();
      else one.unref();
    }
  }
}
