import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Draft } from '../datastore/writer.ts';
import { runCommand } from './program.ts';
import { withStore } from './store.ts';

/** The output of a command. */
export interface Said {
  readonly status: number;
  readonly out: string;
  readonly error: string;
}

/** The command line in this process, with a datastore file in its own folder. */
export interface CommandLine extends Disposable {
  readonly folder: string;
  run(argv: readonly string[], input?: string): Promise<Said>;
  /** Returns the output of a command that must succeed. */
  ok(argv: readonly string[], input?: string): Promise<string>;
  /** Creates a file in the folder. Returns its path. */
  file(name: string, content: string): string;
  /** Writes to the datastore directly, as the daemon does. */
  write<T>(plan: (draft: Draft) => T): Promise<T>;
}

/** In memory, because every write to a disk is synchronous. */
function memoryOrDisk(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
}

export function startCommandLine(environment: Readonly<Record<string, string>> = {}): CommandLine {
  const folder = mkdtempSync(join(memoryOrDisk(), 'calico-cli-'));
  const database = join(folder, 'calico.db');
  const run = async (argv: readonly string[], input = ''): Promise<Said> => {
    const out: string[] = [];
    const error: string[] = [];
    const status = await runCommand(argv, {
      environment: {
        CALICO_DATASTORE_FILE: database,
        CALICO_CONTROL_SOCKET: join(folder, 'control.sock'),
        ...environment,
      },
      settingsFile: join(folder, 'settings.env'),
      out: (text) => out.push(text),
      error: (text) => error.push(text),
      readInput: () => Promise.resolve(input),
      run: () => Promise.reject(new Error('no daemon here')),
    });
    return { status, out: out.join(''), error: error.join('') };
  };
  return {
    folder,
    run,
    ok: async (argv, input) => {
      const output = await run(argv, input);
      if (output.status !== 0) throw new Error(`${argv.join(' ')}: ${output.error}${output.out}`);
      return output.out;
    },
    file: (name, content) => {
      const path = join(folder, name);
      writeFileSync(path, content);
      return path;
    },
    write: (plan) => withStore({ kind: 'sqlite', file: database }, ({ write }) => write(plan)),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
