import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Instrumenter, type babel } from '@stryker-mutator/instrumenter';

/** A deliberate fault that a file of the sandbox can be switched to. */
export interface Mutant {
  readonly id: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** What kind of fault, in Stryker's words. */
  readonly mutator: string;
  readonly replacement: string;
}

const silent = {
  isTraceEnabled: () => false,
  isDebugEnabled: () => false,
  isInfoEnabled: () => false,
  isWarnEnabled: () => false,
  isErrorEnabled: () => false,
  isFatalEnabled: () => false,
  trace: () => {},
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
};

/** Writes all faults into the files, each behind a switch that is off; answers those that count. */
export async function instrument(root: string, files: readonly string[]): Promise<Mutant[]> {
  const sources = await Promise.all(
    files.map(async (name) => ({
      name,
      mutate: true,
      content: await readFile(join(root, name), 'utf8'),
    })),
  );
  const { files: instrumented, mutants } = await new Instrumenter(silent).instrument(sources, {
    plugins: null,
    excludedMutations: [],
    ignorers: [{ shouldIgnore: logged }],
  });
  for (const { name, content } of instrumented) await writeFile(join(root, name), content);
  return mutants
    .filter(({ status }) => status !== 'Ignored')
    .map(({ id, fileName, location, mutatorName, replacement }) => ({
      id,
      file: fileName,
      line: location.start.line + 1,
      column: location.start.column + 1,
      mutator: mutatorName,
      replacement,
    }));
}

const levels = new Set(['debug', 'info', 'warn', 'error']);

/** What is logged is for people who look for a cause; no test holds it. */
function logged(path: babel.NodePath): string | undefined {
  if (!path.isCallExpression()) return undefined;
  const { callee } = path.node;
  if (callee.type !== 'MemberExpression' || callee.property.type !== 'Identifier') return undefined;
  const { object } = callee;
  const name =
    object.type === 'Identifier'
      ? object.name
      : object.type === 'MemberExpression' && 'name' in object.property
        ? object.property.name
        : object.type === 'MemberExpression' && object.property.type === 'PrivateName'
          ? object.property.id.name
          : undefined;
  const isLog = name === 'log' && levels.has(callee.property.name);
  return isLog ? 'a log text' : undefined;
}
