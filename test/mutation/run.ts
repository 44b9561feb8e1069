import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCoverage } from './coverage.ts';
import { instrument, type Mutant } from './instrument.ts';
import { Judge, type Fate } from './judge.ts';
import { RunRecord } from './record.ts';
import { importsOf, makeSandbox } from './sandbox.ts';

/**
 * How many deliberate faults the unit tests notice. A sample of mutants, chosen by a seed, is run one by one; a
 * folder's figure is the share that made a test fail, throw or never end. Mutants are Stryker's
 * (https://stryker-mutator.io); those of log texts do not count. A run that was ended goes on where it was, as long as
 * neither code nor tests have changed.
 *
 *     npm run test:mutation -- --sample 1500 --seed 1 [--only ipam,agent/status] [--jobs 2] [--survivors FILE]
 */

const { values: options } = parseArgs({
  options: {
    sample: { type: 'string', default: '1500' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    survivors: { type: 'string' },
  },
});
const folders = ['ipam', 'profiles', 'agent', 'cache'];
const repository = join(import.meta.dirname, '../..');
const began = Date.now();

const sandbox = makeSandbox(repository);
const record = new RunRecord(repository, sandbox);
const imports = importsOf(sandbox);
const mutated = sandbox.files.filter(
  (name) =>
    folders.some((folder) => name.startsWith(`src/${folder}/`)) &&
    /(?<!\.d|\.test|\.fixture)\.ts$/.test(name),
);
const mutants = await instrument(sandbox.root, mutated);
const asked = mutants.filter(({ file }) =>
  options.only.split(',').some((path) => file.startsWith(`src/${path}`)),
);
const chosen = sampleOf(asked, Number(options.sample));
const fates = new Map<Mutant, Fate>();
for (const mutant of chosen) {
  const verdict = record.verdictOf(nameOf(mutant));
  if (verdict !== undefined) fates.set(mutant, verdict.fate);
}
const known = fates.size;

const coverage = await record.coverage(() => measureCoverage(sandbox, imports, mutated));
const prepared = Date.now();
const left = chosen
  .filter((mutant) => !fates.has(mutant))
  .toSorted((a, b) => folderRank(a) - folderRank(b))
  .values();
const sources = new Map(mutants.map(({ id, file }) => [id, file]));
const importers = (file: string) =>
  mutated.filter((name) => imports.get(name)?.includes(file) === true);
await Promise.all(
  Array.from({ length: Number(options.jobs) }, async () => {
    const earlier = (mutant: Mutant) => record.earlierTest(nameOf(mutant));
    const judge = new Judge({ sandbox: sandbox.root, coverage, sources, importers, earlier });
    for (const mutant of left) {
      const verdict = await judge.fateOf(mutant);
      fates.set(mutant, verdict.fate);
      record.add(nameOf(mutant), verdict);
      if (fates.size % 100 === 0) process.stderr.write(`${fates.size} of ${chosen.length}\n`);
    }
    judge.stop();
  }),
);

process.stdout.write(table());
if (options.survivors !== undefined) {
  const lines = chosen
    .filter((mutant) => !isNoticed(mutant))
    .map((mutant) => {
      const { file, line, column, mutator, replacement } = mutant;
      return `${file}:${line}:${column} ${fates.get(mutant) ?? ''} ${mutator} ${replacement.replaceAll(/\s+/g, ' ').slice(0, 100)}`;
    });
  writeFileSync(options.survivors, `${lines.toSorted().join('\n')}\n`);
}
process.exit();

function folderRank({ file }: Mutant): number {
  return folders.findIndex((folder) => file.startsWith(`src/${folder}/`));
}

function isNoticed(mutant: Mutant): boolean {
  const fate = fates.get(mutant);
  return fate === 'killed' || fate === 'endless';
}

/** The same as long as its file does not change above it. */
function nameOf({ file, line, column, mutator, replacement }: Mutant): string {
  return [file, line, column, mutator, replacement].join(' ');
}

/** The same mutants for the same seed; a larger sample has those of a smaller one. */
function sampleOf(all: readonly Mutant[], count: number): readonly Mutant[] {
  const hash = (mutant: Mutant) =>
    createHash('sha256')
      .update(`${options.seed} ${nameOf(mutant)}`)
      .digest('hex');
  return all
    .map((mutant) => ({ mutant, key: hash(mutant) }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .slice(0, count)
    .map(({ mutant }) => mutant);
}

function table(): string {
  const rows = [...folders, 'all'].map((folder) => {
    const isOf = ({ file }: Mutant) => folder === 'all' || file.startsWith(`src/${folder}/`);
    const sampled = chosen.filter(isOf);
    const count = (fate: Fate) => sampled.filter((mutant) => fates.get(mutant) === fate).length;
    const noticed = sampled.filter(isNoticed).length;
    const share = sampled.length === 0 ? 0 : (100 * noticed) / sampled.length;
    return `| ${folder} | ${asked.filter(isOf).length} | ${sampled.length} | ${noticed} | ${count('endless')} | ${count('survived')} | ${count('not covered')} | ${share.toFixed(1)} % |`;
  });
  const seconds = (ms: number) => Math.round(ms / 1000);
  return [
    '| folder | mutants | in the sample | noticed | of these endless | not noticed | not even run | share noticed |',
    '|---|---|---|---|---|---|---|---|',
    ...rows,
    '',
    `seed ${options.seed}; ${seconds(prepared - began)} s to prepare, ${seconds(Date.now() - prepared)} s for ${chosen.length - known} mutants (${known} were known), ${options.jobs} at a time`,
    '',
  ].join('\n');
}
