import { spawn } from 'node:child_process';
import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';

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

  /**
   * Runs a tool to its end with a text as its input. Throws `kernel/tool-missing`, or `kernel/tool-failed`
   * with its exit status and its first two lines of complaint.
   */
  async run(
    [tool = '', ...argv]: readonly string[],
    options: { readonly input?: string; readonly debianPackage: string },
    signal: AbortSignal,
  ): Promise<ToolOutput> {
    this.forks++;
    const child = spawn(tool, argv, {
      signal,
      timeout: timeoutMs,
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
    });
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
    const status = await new Promise<string>((resolve, reject) => {
      child.once('error', (error) => reject(failure(tool, options.debianPackage, error)));
      child.once('close', (code, killed) => resolve(killed ?? `status ${code ?? 'unknown'}`));
    });
    const output = { stdout: text(stdout), stderr: text(stderr) };
    if (status === 'status 0') return output;
    const why = complaint(output.stderr);
    throw new CalicoError('kernel/tool-failed', { tool, status, why });
  }
}

function failure(tool: string, debianPackage: string, error: Error): CalicoError {
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
