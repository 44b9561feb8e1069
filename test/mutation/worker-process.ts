import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { report, type LoadTask, type Report } from './worker-messages.ts';

type Of<Kind extends Report['kind']> = Extract<Report, { kind: Kind }>;
export type Loaded = Of<'loaded'>;
/** A worker that is late or crashed is gone. `id` is the test that it was at, nothing if at none. */
export type Gone = { readonly kind: 'late' | 'crashed'; readonly id: string; readonly why: string };
export type Ending = Of<'failed' | 'allPassed'> | Gone;

export interface TimedTest {
  readonly id: string;
  /** How often it may come by the mutant before that is an endless loop. */
  readonly maxHits: number;
  readonly deadlineMs: number;
}

/** A process that has the tests of some files loaded (`worker.ts`), and runs them one at a time. */
export class Worker {
  readonly #child: ChildProcess;
  #isGone = false;
  #errors = '';
  #hear: ((report: Report | undefined) => void) | undefined;
  readonly #unheard: Report[] = [];

  constructor(sandbox: string, task: LoadTask) {
    const commandLine = [join(import.meta.dirname, 'worker.ts'), JSON.stringify(task)];
    this.#child = spawn(process.execPath, commandLine, {
      cwd: sandbox,
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        TMPDIR: join(sandbox, '.tmp'),
        NODE_COMPILE_CACHE: join(sandbox, '.compiled'),
        NODE_NO_WARNINGS: '1',
      },
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors = `${this.#errors}${chunk.toString()}`.slice(-5000);
    });
    // What is written to a worker that has just gone is told by its end.
    this.#child.stdin?.on('error', () => undefined);
    const reports = this.#child.stdio[3];
    if (!(reports instanceof Readable)) throw new Error('a worker has no pipe for its reports');
    createInterface({ input: reports }).on('line', (line) => {
      const heard = report.parse(JSON.parse(line));
      if (this.#hear === undefined) this.#unheard.push(heard);
      else this.#hear(heard);
    });
    this.#child.on('close', () => {
      this.#isGone = true;
      this.#hear?.(undefined);
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** To be called first. */
  loaded(deadlineMs: number): Promise<Loaded | Gone> {
    return this.#hearUntil(deadlineMs, (heard) => (heard.kind === 'loaded' ? heard : undefined));
  }

  /** Runs tests until one fails; `onPassed` hears of each other. */
  run(
    options: { readonly mutant?: string; readonly isCounted?: boolean },
    tests: readonly TimedTest[],
    onPassed: (id: string, milliseconds: number) => void = () => undefined,
  ): Promise<Ending> {
    const deadlines = new Map(tests.map(({ id, deadlineMs }) => [id, deadlineMs]));
    const task = { isCounted: false, ...options, tests };
    this.#child.stdin?.write(`${JSON.stringify(task)}\n`);
    return this.#hearUntil<Of<'failed' | 'allPassed'>>(20_000, (heard, wait) => {
      if (heard.kind === 'began') wait(deadlines.get(heard.id) ?? 0, heard.id);
      if (heard.kind === 'passed') {
        onPassed(heard.id, heard.milliseconds);
        wait(20_000, '');
      }
      return heard.kind === 'failed' || heard.kind === 'allPassed' ? heard : undefined;
    });
  }

  /** A clock that stands still while the process waits for a processor. Source: proc_pid_schedstat(5). */
  #ownTimeMs(): number {
    const now = performance.now();
    try {
      const [, waitedNs = '0'] = readFileSync(`/proc/${this.#child.pid}/schedstat`, 'utf8').split(
        ' ',
      );
      return now - Number(waitedNs) / 1e6;
    } catch {
      return now;
    }
  }

  stop(): void {
    this.#isGone = true;
    this.#child.kill('SIGKILL');
  }

  #hearUntil<T>(
    deadlineMs: number,
    take: (heard: Report, wait: (ms: number, id: string) => void) => T | undefined,
  ): Promise<T | Gone> {
    return new Promise((answer) => {
      let at = '';
      let alarm: NodeJS.Timeout | undefined;
      const end = (ending: T | Gone) => {
        clearTimeout(alarm);
        this.#hear = undefined;
        answer(ending);
      };
      const wait = (ms: number, id: string) => {
        at = id;
        const deadline = this.#ownTimeMs() + ms;
        const look = () => {
          const leftMs = deadline - this.#ownTimeMs();
          clearTimeout(alarm);
          if (leftMs > 0) {
            alarm = setTimeout(look, Math.ceil(leftMs));
            return;
          }
          this.stop();
          end({ kind: 'late', id, why: `not ready after ${ms} ms` });
        };
        look();
      };
      const hear = (heard: Report | undefined) => {
        if (heard === undefined) return end({ kind: 'crashed', id: at, why: this.#errors });
        const ending = take(heard, wait);
        if (ending !== undefined) end(ending);
      };
      wait(deadlineMs, '');
      this.#hear = hear;
      for (const heard of this.#unheard.splice(0)) hear(heard);
      if (this.#isGone) hear(undefined);
    });
  }
}
