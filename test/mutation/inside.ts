import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';

/** Runs test files in this process, one after the other; what it is to do comes by the environment. */
const task = z
  .object({
    files: z.array(z.string()),
    /** Where to write which mutants the tests came by, and how often. */
    coverage: z.string().optional(),
    /** The fault that is switched on, and how often code may come by it before that is an endless loop. */
    mutant: z.object({ id: z.string(), mostHits: z.number() }).optional(),
  })
  .parse(JSON.parse(process.env['MUTATION_TASK'] ?? '{}'));

// The name and keys that Stryker's instrumented code looks at.
const stryker: {
  activeMutant?: string;
  hitCount?: number;
  hitLimit?: number;
  mutantCoverage?: { readonly static: Readonly<Record<string, number>> };
} = {};
Object.assign(globalThis, { __stryker__: stryker });

const { coverage, mutant } = task;
if (mutant !== undefined) {
  stryker.activeMutant = mutant.id;
  stryker.hitCount = 0;
  stryker.hitLimit = mutant.mostHits;
}
if (coverage !== undefined) {
  process.on('exit', () =>
    writeFileSync(coverage, JSON.stringify(stryker.mutantCoverage?.static ?? {})),
  );
}
for (const file of task.files) await import(pathToFileURL(resolve(file)).href);
