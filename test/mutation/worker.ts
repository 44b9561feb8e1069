import { writeSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { collect, type CollectedFile } from './node-test.ts';
import { loadTask, runTask, type Report } from './worker-messages.ts';

/**
 * Loads test files once and runs tests of them as it is told on stdin, with the mutant that it is told switched on.
 * Reports go to file descriptor 3 at once, as a test may hold this process for good.
 */

/** What nobody awaited threw. */
class Uncaught extends Error {
  constructor(cause: unknown) {
    super(String(cause), { cause });
  }
}

// The name and keys that Stryker's instrumented code looks at.
const stryker: {
  activeMutant?: string;
  hitCount?: number;
  hitLimit?: number;
  currentTestId?: string | undefined;
  readonly mutantCoverage: {
    readonly static: Readonly<Record<string, number>>;
    readonly perTest: Readonly<Record<string, Readonly<Record<string, number>>>>;
  };
} = { mutantCoverage: { static: {}, perTest: {} } };
Object.assign(globalThis, { __stryker__: stryker });

const replacement = pathToFileURL(join(import.meta.dirname, 'node-test.ts')).href;
registerHooks({
  resolve: (specifier, context, next) =>
    specifier === 'node:test' && context.parentURL !== replacement
      ? { url: replacement, format: 'module-typescript', shortCircuit: true }
      : next(specifier, context),
});
// The same examples each time, and the first that fails will do.
fc.configureGlobal({ seed: 1, endOnFailure: true });

let fail: ((error: unknown) => void) | undefined;
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error: unknown) => {
    if (fail === undefined) throw error;
    fail(new Uncaught(error));
  });
}

const { files, mutant } = loadTask.parse(JSON.parse(process.argv[2] ?? '{}'));
if (mutant !== undefined) switchOn(mutant);
const loaded = new Map<string, CollectedFile>();
// A file's patience begins when it is loaded, and a worker lives longer; it has a deadline for each test.
const timeout = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = () => new AbortController().signal;
for (const name of files) {
  const collected = await collect(() => import(pathToFileURL(resolve(name)).href));
  for (const body of collected.before) await body();
  loaded.set(name, collected);
}
AbortSignal.timeout = timeout;

tell({
  kind: 'loaded',
  tests: [...loaded].flatMap(([file, { tests }]) => tests.map((_, index) => `${file}#${index}`)),
  atLoad: Object.keys(stryker.mutantCoverage.static),
});
for await (const line of createInterface({ input: process.stdin })) {
  try {
    await run(runTask.parse(JSON.parse(line)));
  } catch (error) {
    process.stderr.write(String(error));
    process.exit(1);
  }
}

async function run(task: ReturnType<typeof runTask.parse>): Promise<void> {
  let failed: Report | undefined;
  for (const { id, maxHits } of task.tests) {
    tell({ kind: 'began', id });
    if (task.mutant !== undefined) switchOn({ id: task.mutant, maxHits });
    const start = performance.now();
    const error = await errorOf(id, task.isCounted);
    const milliseconds = performance.now() - start;
    const isEndless = (stryker.hitCount ?? 0) > (stryker.hitLimit ?? Infinity);
    if (error === undefined && !isEndless) tell({ kind: 'passed', id, milliseconds });
    else {
      const isCaught = !(error instanceof Uncaught);
      failed = { kind: 'failed', id, isEndless, isCaught, why: String(error) };
      break;
    }
  }
  if (task.mutant !== undefined) delete stryker.activeMutant;
  tell(failed ?? { kind: 'allPassed', hits: stryker.mutantCoverage.perTest });
}

async function errorOf(id: string, isCounted: boolean): Promise<unknown> {
  const [file = '', index] = id.split('#');
  const test = loaded.get(file)?.tests[Number(index)];
  if (test === undefined) throw new Error(`there is no test ${id}`);
  if (isCounted) stryker.currentTestId = id;
  try {
    await caught(test.body);
    return undefined;
  } catch (error) {
    return error ?? new Error('nothing was thrown');
  } finally {
    stryker.currentTestId = undefined;
  }
}

async function caught(body: () => unknown): Promise<void> {
  const uncaught = Promise.withResolvers<never>();
  fail = uncaught.reject;
  try {
    await Promise.race([body(), uncaught.promise]);
  } finally {
    fail = undefined;
  }
}

function switchOn({ id, maxHits }: { readonly id: string; readonly maxHits: number }): void {
  stryker.activeMutant = id;
  stryker.hitCount = 0;
  stryker.hitLimit = maxHits;
}

function tell(report: Report): void {
  let rest = Buffer.from(`${JSON.stringify(report)}\n`);
  while (rest.length > 0) rest = rest.subarray(written(rest));
}

/** The pipe does not block; when it is full, the parent has to read first. */
function written(bytes: Buffer): number {
  try {
    return writeSync(3, bytes);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) process.exit(1);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    return 0;
  }
}
