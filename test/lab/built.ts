import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { outputOf, ownEnvironment } from './process.ts';

/** The folder of the checkout, mounted read-only under the same path in every machine. */
export const checkout = resolve(import.meta.dirname, '../..');

/** The program as it is installed: one file and the files that it loads (plugin/bundle.ts). */
export function builtProgram(): Promise<string> {
  return built('program', ['plugin/bundle.ts'], (folder) => [
    `${checkout}/node_modules/.bin/node`,
    `${checkout}/plugin/bundle.ts`,
    folder,
  ]);
}

/**
 * Returns a folder below build/, under the same path in every machine, that a command builds from the program's sources
 * and the named files. It is rebuilt only when those have changed; several processes may call it concurrently.
 */
export async function built(
  name: string,
  sources: readonly string[],
  command: (folder: string) => readonly string[],
): Promise<string> {
  const folder = `${checkout}/build/${name}`;
  const digest = digestOf(['src/**/*.ts', 'package-lock.json', ...sources]);
  const stamp = `${folder}.sources`;
  if (existsSync(folder) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) {
    return folder;
  }
  mkdirSync(`${checkout}/build`, { recursive: true });
  const script = `
    [ -e "$0" ] && [ "$(cat "$0.sources" 2>/dev/null)" = "$1" ] && exit
    digest=$1; shift
    "$@" && printf %s "$digest" >"$0.sources"`;
  await outputOf(
    ['flock', `${folder}.lock`, 'sh', '-c', script, folder, digest, ...command(folder)],
    { timeoutMs: 600_000, env: ownEnvironment() },
  );
  return folder;
}

function digestOf(patterns: readonly string[]): string {
  const files = globSync([...patterns], { cwd: checkout }).toSorted();
  const hash = createHash('sha256');
  for (const file of files) {
    if (file.endsWith('.test.ts') || !statSync(`${checkout}/${file}`).isFile()) continue;
    hash.update(`${file}\0`).update(readFileSync(`${checkout}/${file}`));
  }
  return hash.digest('hex');
}
