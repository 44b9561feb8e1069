import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { fetchStatus } from '../src/cli/control-client.ts';
import { withoutTypes } from './measure.ts';

const checkout = join(import.meta.dirname, '..');

/** A time of the daemon, by wall clock and by CPU time, which other work on the machine does not lengthen. */
export interface Duration {
  readonly ms: number;
  readonly processorMs: number;
}

export interface DaemonOptions {
  /** Of its program, sockets and files. */
  readonly folder: string;
  readonly node: string;
  /** In addition to what is common to all. */
  readonly settings: Readonly<Record<string, string>>;
  /** Whether `longestBlock` is used, for which the daemon wakes up every millisecond. */
  readonly watchesLoop?: boolean;
  /** Ends what waits for the daemon. */
  readonly signal: AbortSignal;
}

/**
 * A daemon that is measured, without Docker: the bundle, as it is installed. That starts faster and needs less memory
 * than sources that Node.js compiles. It ends with this process.
 */
export class MeasuredDaemon {
  /** Its control socket. */
  readonly control: string;
  readonly #folder: string;
  readonly #environment: Readonly<Record<string, string | undefined>>;
  readonly #signal: AbortSignal;
  readonly #loopFile: string;
  readonly #loopWatch: readonly string[];
  #process: ChildProcess | undefined;
  #startedAt = 0;

  /** Builds the program. */
  constructor({ folder, node, settings, watchesLoop = false, signal }: DaemonOptions) {
    execFileSync(process.execPath, [`${checkout}/plugin/bundle.ts`, join(folder, 'dist')]);
    copyFileSync(join(checkout, 'package.json'), join(folder, 'package.json'));
    symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'));
    this.control = join(folder, 'control.sock');
    this.#folder = folder;
    this.#signal = signal;
    this.#loopFile = join(folder, 'loop.json');
    this.#loopWatch = watchesLoop
      ? [`--import=${withoutTypes(join(checkout, 'bench/loop-watch.ts'), folder)}`]
      : [];
    this.#environment = {
      PATH: process.env['PATH'],
      NODENAME: node,
      CALICO_SNAPSHOT_FILE: join(folder, 'snapshot.json'),
      CALICO_PLUGIN_DIR: folder,
      CALICO_CONTROL_SOCKET: this.control,
      CALICO_LOG_LEVEL: 'error',
      DOCKER_HOST: `unix://${folder}/none.sock`,
      LOOP_WATCH_FILE: this.#loopFile,
      ...settings,
    };
    // Before other listeners, which delete its folder.
    process.prependOnceListener('exit', () => this.#process?.kill('SIGKILL'));
  }

  start(): void {
    this.#startedAt = performance.now();
    this.#process = spawn(
      process.execPath,
      ['--max-semi-space-size=2', '--optimize-for-size', ...this.#loopWatch, this.#program, 'run'],
      { stdio: ['ignore', 'ignore', 'inherit'], env: this.#environment },
    );
  }

  /** Ends it; resolves when it has ended. */
  async end(how: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const ended = once(this.#running, 'exit');
    this.#running.kill(how);
    await ended;
  }

  /**
   * Waits until it reports the dataplane in sync; returns the time from its start. Each question costs it some time: it
   * looks at all processes of the machine.
   */
  async untilInSync(everyMs: number, onReport?: () => Promise<void>): Promise<Duration> {
    for (;;) {
      const report = await fetchStatus(this.control).catch(() => undefined);
      if (report !== undefined) await onReport?.();
      if (report?.checks.every(({ name, ok }) => name !== 'dataplane' || ok) === true) break;
      if (this.#running.exitCode !== null) throw new Error('the daemon has exited');
      this.#signal.throwIfAborted();
      await sleep(everyMs);
    }
    return { ms: performance.now() - this.#startedAt, processorMs: this.#processorMs() };
  }

  /** Returns the longest block of its event loop since the last call. */
  async longestBlock(): Promise<Duration> {
    rmSync(this.#loopFile, { force: true });
    this.#running.kill('SIGUSR2');
    for (;;) {
      try {
        const text = readFileSync(this.#loopFile, 'utf8');
        return z.object({ ms: z.number(), processorMs: z.number() }).parse(JSON.parse(text));
      } catch {
        this.#signal.throwIfAborted();
        await sleep(20);
      }
    }
  }

  /** Returns its resident memory, at present or at most. */
  memoryKb(name: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
    const status = readFileSync(`/proc/${this.#running.pid}/status`, 'utf8');
    return Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  }

  /** Runs a command with the settings of the daemon; throws if it fails. */
  command(argv: readonly string[]): void {
    execFileSync(process.execPath, [this.#program, ...argv], { env: this.#environment });
  }

  get #program(): string {
    return join(this.#folder, 'dist/main.js');
  }

  get #running(): ChildProcess {
    if (this.#process === undefined) throw new Error('the daemon has not been started');
    return this.#process;
  }

  /** Its CPU time so far; the kernel counts in hundredths of a second. */
  #processorMs(): number {
    const stat = readFileSync(`/proc/${this.#running.pid}/stat`, 'utf8');
    const [user = 0, system = 0] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number);
    return (user + system) * 10;
  }
}

/** Formats a time in milliseconds, and of it the CPU time. */
export function inMs({ ms, processorMs }: Duration): string {
  return `${ms.toFixed(0)}, ${processorMs.toFixed(0)}`;
}

/** Formats a time in seconds, and of it the CPU time. */
export function inSeconds({ ms, processorMs }: Duration): string {
  return `${(ms / 1000).toFixed(1)}, ${(processorMs / 1000).toFixed(1)}`;
}
