import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A copy of the repository whose code may be changed. */
export interface Sandbox {
  readonly root: string;
  readonly files: readonly string[];
  /** The same for the same code and tests. */
  readonly contents: string;
  /** The same for the same test file, with all that it imports and the golden files. */
  readonly contentsOf: (test: string) => string;
}

/** It is gone when this process ends. */
export function makeSandbox(repository: string): Sandbox {
  const root = mkdtempSync(join(tmpdir(), 'calico-mutation-'));
  process.on('exit', () => rmSync(root, { recursive: true, force: true }));
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => process.exit(1));
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
  });
  const files = listed
    .split('\n')
    .filter((name) => name !== '' && existsSync(join(repository, name)))
    .toSorted();
  const hashes = new Map<string, string>();
  const ofAll = createHash('sha256').update(process.version);
  const common = createHash('sha256').update(process.version);
  for (const name of files) {
    cpSync(join(repository, name), join(root, name));
    if (!/^(src|test)\/|^package-lock/.test(name)) continue;
    const text = `${name} ${sha(readFileSync(join(repository, name)))}`;
    hashes.set(name, text);
    if (!/^test\/(?!golden|mutation)/.test(name)) ofAll.update(text);
    if (!/^src\/|^test\/(?!golden|mutation)/.test(name)) common.update(text);
  }
  const sandbox = { root, files };
  const imports = importsOf(sandbox);
  const beside = common.digest('hex');
  const contentsOf = (test: string) => {
    const names = [test, ...reachedFrom(test, imports)].toSorted();
    return sha(`${beside} ${names.map((name) => hashes.get(name)).join(' ')}`);
  };
  symlinkSync(join(repository, 'node_modules'), join(root, 'node_modules'));
  mkdirSync(join(root, '.tmp'));
  return { ...sandbox, contents: ofAll.digest('hex').slice(0, 16), contentsOf };
}

function sha(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 16);
}

export function isTest(name: string): boolean {
  return /^(src\/.*|test\/golden\/[^/]*)\.test\.ts$/.test(name);
}

/** Which files each file imports itself. */
export function importsOf({
  root,
  files,
}: Pick<Sandbox, 'root' | 'files'>): ReadonlyMap<string, readonly string[]> {
  const sources = files.filter((name) => name.endsWith('.ts'));
  return new Map(
    sources.map((name) => {
      const text = readFileSync(join(root, name), 'utf8');
      const found = text.matchAll(/(?:from|import|import\() ?'(\.[^']+\.ts)'/g);
      return [name, [...found].map(([, path = '']) => join(dirname(name), path))];
    }),
  );
}

/** All that a file imports, itself and by others. */
export function reachedFrom(
  file: string,
  imports: ReadonlyMap<string, readonly string[]>,
): ReadonlySet<string> {
  const found = new Set<string>();
  const open = [file];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    for (const next of imports.get(name) ?? []) {
      if (found.has(next)) continue;
      found.add(next);
      open.push(next);
    }
  }
  return found;
}
