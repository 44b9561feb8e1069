import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, tracked } from './children.ts';

/** A folder for temporary files that is removed when this process ends, also if it is killed. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
}

/** Creates a folder; the prefix begins its name. */
export function makeTemporaryFolder(prefix: string): TemporaryFolder {
  const path = mkdtempSync(join(tmpdir(), prefix));
  // Programs that are being killed may still write to it.
  const remove = 'cat >/dev/null; until rm -rf "$0" 2>/dev/null; do sleep 0.1; done';
  const remover = tracked(
    `remover of ${path}`,
    spawn('sh', ['-c', remove, path], { stdio: ['pipe', 'ignore', 'ignore'], detached: true }),
  );
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      remover.stdin.end();
      await ended(`remover of ${path}`, remover);
    },
  };
}
