import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { ended, tracked } from './children.ts';

/** How a command ended; the status is the shell's: 128 + n after signal n, 124 when its time was over. */
export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to run a command. */
export interface CommandOptions {
  /** The time after which it is killed; two minutes by default. */
  readonly timeoutMs?: number;
  /** Its standard input; empty by default, and if the promise is rejected. */
  readonly input?: string | Uint8Array | Promise<string>;
  readonly env?: Readonly<Record<string, string>>;
}

const signalNumbers: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGALRM: 14,
  SIGTERM: 15,
};

/** Runs a command to its end; does not throw for an exit status other than 0. */
export function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [command = '', ...rest] = argv;
  const timeoutMs = options.timeoutMs ?? 120_000;
  return new Promise((resolve, reject) => {
    const child = tracked(
      argv.join(' '),
      spawn(command, rest, { env: { ...options.env }, stdio: 'pipe' }),
    );
    const output = collectOutput(child);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
      // Processes that it left in the background may keep the pipes open.
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({
        status: timedOut ? 124 : statusOf(code, signal),
        stdout: output.stdout(),
        stderr: timedOut ? `${output.stderr()}killed after ${timeoutMs} ms` : output.stderr(),
      });
    });
    // A command that ends without reading its input is no error here.
    child.stdin.on('error', () => undefined);
    const { input = '' } = options;
    if (input instanceof Promise) {
      void input.catch(() => '').then((text) => child.stdin.end(text));
    } else {
      child.stdin.end(input);
    }
  });
}

/** Returns the standard output of a command, without the last newline; throws its output if it fails. */
export async function outputOf(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  return outputOrThrow(argv, await runCommand(argv, options));
}

/** Returns the standard output of a result, without the last newline; throws the output of a failed command. */
export function outputOrThrow(argv: readonly string[], result: CommandResult): string {
  if (result.status === 0) return result.stdout.trimEnd();
  const said = `${result.stderr}${result.stdout}`.trim();
  throw new Error(`${argv.join(' ')}: exit status ${result.status}: ${said}`);
}

/** The environment of the tests themselves, for commands that download: it names proxies and certificates. */
export function ownEnvironment(): Record<string, string> {
  const entries = Object.entries(process.env);
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

/** A program in the background, behind an nsenter that waits for it. */
export class BackgroundProcess {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #output: ReturnType<typeof collectOutput>;
  /** Settles with the exit status when the program has ended and its output is read. */
  readonly exited: Promise<number>;
  #status: number | undefined;

  constructor(argv: readonly string[], env: Readonly<Record<string, string>>) {
    const [command = '', ...rest] = argv;
    this.#name = argv.join(' ');
    this.#child = tracked(
      this.#name,
      spawn(command, rest, { env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] }),
    );
    this.#output = collectOutput(this.#child);
    this.exited = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('exit', (code, signal) => {
        const status = statusOf(code, signal);
        this.#status = status;
        // A process that it has started may keep the output open.
        const timer = setTimeout(() => resolve(status), 1000);
        this.#child.once('close', () => {
          clearTimeout(timer);
          resolve(status);
        });
      });
    });
  }

  /** The exit status, undefined while it runs. */
  get status(): number | undefined {
    return this.#status;
  }

  /** The process ids of the program itself, in the process namespace of the tests; none after its end. */
  get pids(): readonly number[] {
    const { pid } = this.#child;
    return this.#status !== undefined || pid === undefined ? [] : childrenOf(pid);
  }

  /** Its output so far, standard output and standard error. */
  output(): string {
    return `${this.#output.stdout()}${this.#output.stderr()}`;
  }

  /** Sends a signal to the program itself (nsenter passes none on); nothing if it has ended. */
  signal(signal: NodeJS.Signals): void {
    if (this.#status !== undefined) return;
    for (const pid of this.pids) process.kill(pid, signal);
    // nsenter stops itself when its child is stopped, and must go on with it.
    if (signal === 'SIGCONT') this.#child.kill(signal);
  }

  /** Ends it by the signal and waits until it has ended; kills it when that takes longer than a minute. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number> {
    this.signal('SIGCONT');
    this.signal(signal);
    const timer = setTimeout(() => this.signal('SIGKILL'), 60_000);
    try {
      return await this.ended(120_000);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until it has ended, and answers its exit status; throws when that takes longer. */
  async ended(patienceMs?: number): Promise<number> {
    await ended(this.#name, this.#child, patienceMs);
    return this.exited;
  }
}

function collectOutput(child: ChildProcess): { stdout: () => string; stderr: () => string } {
  const collect = (stream: ChildProcess['stdout']) => {
    const chunks: Buffer[] = [];
    stream?.on('data', (chunk: Buffer) => chunks.push(chunk));
    return () => Buffer.concat(chunks).toString();
  };
  return { stdout: collect(child.stdout), stderr: collect(child.stderr) };
}

function statusOf(code: number | null, signal: NodeJS.Signals | null): number {
  if (code !== null) return code;
  return 128 + (signal === null ? 0 : (signalNumbers[signal] ?? 0));
}

/** A kernel may lack the list of a process's children (CONFIG_PROC_CHILDREN). */
function childrenOf(pid: number): readonly number[] {
  const list = `/proc/${pid}/task/${pid}/children`;
  if (existsSync(list)) return readFileSync(list, 'utf8').split(' ').filter(Boolean).map(Number);
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return pids.filter((child) => existsSync(`/proc/${child}/task`) && parentOf(child) === pid);
}

/** Source: proc_pid_stat(5); the name, in parentheses, may contain anything. */
function parentOf(pid: number): number | undefined {
  try {
    const [, parent] =
      readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    return parent === undefined ? undefined : Number(parent);
  } catch {
    return undefined;
  }
}
