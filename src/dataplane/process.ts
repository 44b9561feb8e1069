import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';
import { ReadyTool } from './ready-tool.ts';

/** Output of a tool. */
export interface ToolOutput {
  readonly stdout: string;
  readonly stderr: string;
}

const timeoutMs = 30_000;
const maxOutputBytes = 64 << 20;

/** Starts the system's tools, without a shell, and counts them. */
export class ToolRunner {
  /** Processes started. */
  forks = 0;
  /** By command line. */
  readonly #ready = new Map<string, ReadyTool>();

  /**
   * Runs a tool to its end with a text as its input. Throws `kernel/tool-missing`, or `kernel/tool-failed`
   * with its exit status and its first two lines of complaint.
   */
  async run(
    [tool = '', ...argv]: readonly string[],
    options: { readonly input?: string; readonly debianPackage: string },
    signal: AbortSignal,
  ): Promise<ToolOutput> {
    const child = this.#start([tool, ...argv], signal, timeoutMs);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let bytes = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxOutputBytes) stdout.push(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    // A tool that exits before it has read everything is detected by its status.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    const status = await statusOf(child).catch((error: unknown) => {
      throw failure(tool, options.debianPackage, error);
    });
    const output = { stdout: text(stdout), stderr: text(stderr) };
    if (status === 'status 0') return output;
    const why = complaint(output.stderr);
    throw new CalicoError('kernel/tool-failed', { tool, status, why });
  }

  /**
   * As `run`, for a tool that acts on its input line by line and repeats comments: it keeps running for the next input,
   * because a start takes longer than most inputs. It ends with an error, or when the signal is aborted.
   */
  async feed(
    argv: readonly string[],
    { input, debianPackage }: { readonly input: string; readonly debianPackage: string },
    signal: AbortSignal,
  ): Promise<void> {
    const [tool = ''] = argv;
    const key = argv.join(' ');
    let ready = this.#ready.get(key);
    if (ready === undefined) {
      const child = this.#start(argv, signal);
      const ended = statusOf(child).finally(() => this.#ready.delete(key));
      ready = new ReadyTool(child, ended);
      this.#ready.set(key, ready);
    }
    const stop = () => ready?.kill();
    signal.addEventListener('abort', stop);
    try {
      const end = await ready.take(input, timeoutMs);
      if (end === undefined) return;
      const why = complaint(end.stderr);
      throw new CalicoError('kernel/tool-failed', { tool, status: end.status, why });
    } catch (error) {
      throw error instanceof CalicoError ? error : failure(tool, debianPackage, error);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #start(
    [tool = '', ...argv]: readonly string[],
    signal: AbortSignal,
    timeout?: number,
  ): ChildProcessWithoutNullStreams {
    this.forks++;
    return spawn(tool, argv, {
      signal,
      timeout,
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
    });
  }
}

/** Resolves with the status or the signal with which a tool ends; rejects if it does not start, or is aborted. */
function statusOf(child: ChildProcessWithoutNullStreams): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, killed) => resolve(killed ?? `status ${code ?? 'unknown'}`));
  });
}

function failure(tool: string, debianPackage: string, error: unknown): CalicoError {
  if (hasErrorCode(error, 'ENOENT')) {
    return new CalicoError(
      'kernel/tool-missing',
      { tool, package: debianPackage },
      { cause: error },
    );
  }
  const why = describe(error);
  return new CalicoError('kernel/tool-failed', { tool, status: 'not run', why }, { cause: error });
}

/** Without the hint at the tool's help. */
function complaint(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  return lines
    .filter((line) => line !== '' && !line.startsWith('Try `'))
    .slice(0, 2)
    .join(' ');
}

function text(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('utf8');
}
