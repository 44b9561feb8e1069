import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ended, tracked } from './children.ts';
import type { Machine } from './machine.ts';
import type { BackgroundProcess } from './process.ts';

/** Kills programs at a certain system call, by strace: the program needs no code for it, and every run is alike. */

/** The reason to skip tests that need it; `false` with strace. */
export function unlessStrace(): string | false {
  return existsSync('/usr/bin/strace') ? false : 'needs strace';
}

export interface KillPoint {
  /**
   * A system call of the program's main thread: `rename` replaces a file, `write` sends and prints, `writev` sends more,
   * `pwrite64` changes a SQLite file.
   */
  readonly call: 'rename' | 'write' | 'writev' | 'pwrite64';
  /** The number of the call before which it is killed, from 1. */
  readonly at: number;
}

/** A running program that will be killed. */
export interface Doomed extends AsyncDisposable {
  /** Returns the call before which it was killed, with its arguments; `undefined` if it was not. */
  killedAt(): string | undefined;
  /** Resolves when the process has ended and all of it is known. */
  over(): Promise<void>;
}

/** Kills a process at a point, counted from now; disposing of it lets the process go. */
export async function killAt(pid: number, { call, at }: KillPoint): Promise<Doomed> {
  const strace = tracked(
    'strace',
    spawn(
      '/usr/bin/strace',
      [
        '-qq',
        '-s',
        '80',
        '-e',
        `trace=${call}`,
        '-e',
        `inject=${call}:signal=KILL:when=${at}`,
        '-p',
        String(pid),
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    ),
  );
  const chunks: Buffer[] = [];
  strace.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  const said = () => Buffer.concat(chunks).toString();
  const isTraced = () => !/^TracerPid:\s*0$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  for (const end = Date.now() + 20_000; !isTraced(); await sleep(5)) {
    assert.ok(Date.now() < end && strace.exitCode === null, said());
  }
  return {
    over: () => ended('strace', strace, 150_000),
    killedAt: () => {
      const lines = said().trimEnd().split('\n');
      if (!(lines.at(-1) ?? '').startsWith('+++ killed')) return undefined;
      return lines.at(-2)?.replace(/\) += .*$/, ')');
    },
    [Symbol.asyncDispose]: async () => {
      strace.kill('SIGINT');
      await ended('strace', strace);
    },
  };
}

/** How a command ended that was to be killed. */
export interface Killed {
  /** The call before which it was killed; `undefined` if it ended before. */
  readonly call: string | undefined;
  readonly status: number;
  readonly output: string;
}

/** Runs a command in a machine that is killed at a point. */
export async function runKilled(
  machine: Machine,
  argv: readonly string[],
  point: KillPoint,
  env: Readonly<Record<string, string>> = {},
): Promise<Killed> {
  const gate = `/run/gate-${randomBytes(4).toString('hex')}`;
  const wait = 'until [ -e "$0" ]; do sleep 0.02; done; rm "$0"; exec "$@"';
  const running = machine.spawn(['sh', '-c', wait, gate, ...argv], env);
  await using doomed = await killAt(await pidOf(running), point);
  writeFileSync(machine.path(gate), '');
  const status = await running.ended(150_000);
  // strace reports the end after the program has ended.
  await doomed.over();
  return { call: doomed.killedAt(), status, output: running.output() };
}

async function pidOf(running: BackgroundProcess): Promise<number> {
  for (;;) {
    const [pid] = running.pids;
    // nsenter and setpriv execute the program in the same process.
    if (pid !== undefined && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sh\0'))
      return pid;
    assert.equal(running.status, undefined, running.output());
    await sleep(5);
  }
}
