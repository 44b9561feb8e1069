import { z } from 'zod';
import { isTest, reachedFrom, type Sandbox } from './sandbox.ts';
import { Worker } from './worker-process.ts';

/** A test that comes by so many mutants is one of load: it would be minutes over each, and is not asked. */
const maxPasses = 5_000_000;
const patienceMs = 600_000;
/** Tests with a server of their own, which other tests of the same code make unnecessary. */
const isLeftOut = (name: string) => name.startsWith('src/cluster/joining/join.');

export const coverage = z.object({
  /** By id: how long it takes without a mutant, and how often it comes by which. */
  tests: z.record(
    z.string(),
    z.object({ milliseconds: z.number(), hits: z.record(z.string(), z.number()) }),
  ),
  /** Mutants of what runs when code is loaded. */
  atLoad: z.array(z.string()),
});
export type Coverage = z.infer<typeof coverage>;

/** Which mutants each test comes by, without files whose tests build on each other. Throws if a test fails at first. */
export async function measureCoverage(
  sandbox: Sandbox,
  imports: ReadonlyMap<string, readonly string[]>,
  mutated: readonly string[],
): Promise<Coverage> {
  const isReached = (test: string) => mutated.some((name) => reachedFrom(test, imports).has(name));
  const files = sandbox.files.filter((name) => isTest(name) && isReached(name) && !isLeftOut(name));
  const worker = new Worker(sandbox.root, { files });
  const loaded = await worker.loaded(patienceMs);
  if (loaded.kind !== 'loaded') throw fails(loaded);
  const milliseconds = new Map<string, number>();
  const first = await worker.run({ isCounted: true }, timed(loaded.tests), (id, ms) =>
    milliseconds.set(id, ms),
  );
  if (first.kind !== 'allPassed') throw fails(first);
  const found: Coverage = { tests: {}, atLoad: [...loaded.atLoad] };
  for (const id of loaded.tests) {
    const hits = first.hits[id] ?? {};
    const passes = Object.values(hits).reduce((sum, one) => sum + one, 0);
    if (passes === 0 || passes > maxPasses) continue;
    found.tests[id] = { milliseconds: milliseconds.get(id) ?? 0, hits };
  }
  let again = await worker.run({}, timed(Object.keys(found.tests).toReversed()));
  while (again.kind === 'failed') {
    const [file = ''] = again.id.split('#');
    process.stderr.write(`left out, as its tests pass only once in a process: ${file}\n`);
    for (const id of Object.keys(found.tests)) {
      if (id.startsWith(`${file}#`)) delete found.tests[id];
    }
    again = await worker.run({}, timed(Object.keys(found.tests).toReversed()));
  }
  worker.stop();
  if (again.kind !== 'allPassed') throw fails(again);
  return found;
}

function timed(ids: readonly string[]) {
  return ids.map((id) => ({ id, maxHits: Number.MAX_SAFE_INTEGER, deadlineMs: patienceMs }));
}

function fails({ id, why }: { readonly id: string; readonly why: string }): Error {
  return new Error(`${id} fails without a mutant: ${why}`);
}
