import { execFile } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { replaceFileSync } from '../../async/replace-file.ts';
import { CalicoError, describe, hasErrorCode } from '../../errors/error.ts';

/** The service manager of the host, as far as the etcd of a cluster needs it. */
export interface UnitManager {
  /** Writes a unit and enables it, so that it starts with the host; returns whether its text has changed. */
  install(unit: string, text: string): Promise<boolean>;
  /** Starts a unit; does nothing if it runs. */
  start(unit: string): Promise<void>;
  restart(unit: string): Promise<void>;
  isActive(unit: string): Promise<boolean>;
  /** Stops and disables a unit, and removes its file. */
  remove(unit: string): Promise<void>;
  /** Disables a unit that another package has brought, and keeps it from being started until `unmask`. */
  mask(unit: string): Promise<void>;
  unmask(unit: string): Promise<void>;
  /** Reports whether somebody has masked a unit. */
  isMasked(unit: string): Promise<boolean>;
}

const timeoutMs = 60_000;
const run = promisify(execFile);

/** Runs a tool of the host; throws its complaint. */
export async function runTool(
  tool: string,
  argv: readonly string[],
  options: { readonly timeoutMs?: number; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  try {
    const { stdout } = await run(tool, argv, {
      timeout: options.timeoutMs ?? timeoutMs,
      maxBuffer: 16 << 20,
      env: {
        ...process.env,
        PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
        LC_ALL: 'C',
        ...options.env,
      },
    });
    return stdout;
  } catch (error) {
    throw new CalicoError('cluster/tool-failed', { tool, why: complaint(error) }, { cause: error });
  }
}

const errorMark = /^(?:E|Error): /;

function complaint(error: unknown): string {
  if (hasErrorCode(error, 'ENOENT')) return 'not installed';
  const stderr =
    error instanceof Error && 'stderr' in error && typeof error.stderr === 'string'
      ? error.stderr
      : '';
  // The line that apt ends with does not name it.
  if (/no space left on device/i.test(stderr)) return 'no space left on device';
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  // Errors of apt and of etcdctl begin with this; what comes before them are warnings and progress.
  const errors = lines.filter((line) => errorMark.test(line));
  const [line = describe(error)] = errors.length > 0 ? errors : lines;
  return line.replace(errorMark, '');
}

/** Reports whether systemd manages this host, and can be reached from here. Source: sd_booted(3). */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/** systemd, by systemctl(1). */
export class Systemd implements UnitManager {
  async install(unit: string, text: string): Promise<boolean> {
    const file = unitFile(unit);
    const isChanged = !existsSync(file) || readFileSync(file, 'utf8') !== text;
    if (isChanged) {
      replaceFileSync(file, text);
      await systemctl('daemon-reload');
    }
    await systemctl('enable', '--quiet', unit);
    return isChanged;
  }

  async start(unit: string): Promise<void> {
    await systemctl('start', unit);
  }

  async restart(unit: string): Promise<void> {
    await systemctl('restart', unit);
  }

  async isActive(unit: string): Promise<boolean> {
    try {
      await systemctl('is-active', '--quiet', unit);
      return true;
    } catch {
      return false;
    }
  }

  async remove(unit: string): Promise<void> {
    const file = unitFile(unit);
    if (!existsSync(file)) return;
    await systemctl('disable', '--quiet', '--now', unit);
    rmSync(file, { force: true });
    await systemctl('daemon-reload');
  }

  async mask(unit: string): Promise<void> {
    await systemctl('mask', '--quiet', unit);
  }

  async unmask(unit: string): Promise<void> {
    await systemctl('disable', '--quiet', unit);
    await systemctl('unmask', '--quiet', unit);
  }

  async isMasked(unit: string): Promise<boolean> {
    // Its exit status tells other states, and that the unit does not exist.
    const { stdout } = await run('systemctl', ['is-enabled', unit], { timeout: timeoutMs }).catch(
      (error: unknown) => ({
        stdout: error instanceof Error && 'stdout' in error ? error.stdout : '',
      }),
    );
    return String(stdout).trim() === 'masked';
  }
}

function unitFile(unit: string): string {
  return `/etc/systemd/system/${unit}`;
}

async function systemctl(...argv: readonly string[]): Promise<void> {
  await runTool('systemctl', argv);
}
