import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { instrument, type Mutant } from './instrument.ts';

/**
 * How many deliberate faults the unit tests notice. A sample of mutants, chosen by a seed, is run one by one; a
 * folder's figure is the share that made a test fail, throw or never end. Mutants are Stryker's
 * (https://stryker-mutator.io); those of log texts do not count.
 *
 *     npm run test:mutation -- --sample 1500 --seed 1 [--folders ipam,agent] [--jobs 2] [--survivors FILE]
 */

const { values: options } = parseArgs({
  options: {
    sample: { type: 'string', default: '1500' },
    seed: { type: 'string', default: '1' },
    folders: { type: 'string', default: 'ipam,profiles,agent,cache' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    survivors: { type: 'string' },
  },
});
const repository = join(import.meta.dirname, '../..');
const sandbox = mkdtempSync(join(tmpdir(), 'calico-mutation-'));
process.on('exit', () => rmSync(sandbox, { recursive: true, force: true }));
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => process.exit(1));

const folders = options.folders
  .split(',')
  .filter((name) => existsSync(`${repository}/src/${name}`));
const files = copyRepository();
const isTest = (name: string) => /^(src\/.*|test\/golden\/[^/]*)\.test\.ts$/.test(name);
const mutated = files.filter(
  (name) =>
    folders.some((folder) => name.startsWith(`src/${folder}/`)) &&
    /(?<!\.d|\.test|\.fixture)\.ts$/.test(name),
);
const mutants = await instrument(sandbox, mutated);
const chosen = sampleOf(mutants, Number(options.sample));
const began = Date.now();

/** What a test file came by, and how long it takes alone. */
interface TestFile {
  readonly name: string;
  readonly milliseconds: number;
  readonly hits: Readonly<Record<string, number>>;
}

const tests: TestFile[] = [];
await eachOf(files.filter(isTest), async (name) => {
  const coverage = join(sandbox, `coverage-${name.replaceAll('/', '-')}.json`);
  const start = Date.now();
  const { ended, output } = await runTests({ files: [name], coverage }, 600_000);
  if (ended !== 'passed') throw new Error(`${name} fails without a mutant: ${output}`);
  const hits = z.record(z.string(), z.number()).parse(JSON.parse(readFileSync(coverage, 'utf8')));
  tests.push({ name, milliseconds: Date.now() - start, hits });
});
const prepared = Date.now();

type Fate = 'killed' | 'endless' | 'survived' | 'not covered';
const fates = new Map<Mutant, Fate>();
await eachOf(chosen, async (mutant) => {
  fates.set(mutant, await fateOf(mutant));
  if (fates.size % 100 === 0) process.stderr.write(`${fates.size} of ${chosen.length}\n`);
});

process.stdout.write(table());
if (options.survivors !== undefined) {
  const left = chosen.filter((mutant) => isLeft(fates.get(mutant)));
  const lines = left.map((mutant) => {
    const { file, line, column, mutator, replacement } = mutant;
    return `${file}:${line}:${column} ${fates.get(mutant) ?? ''} ${mutator} ${replacement.replaceAll(/\s+/g, ' ').slice(0, 100)}`;
  });
  writeFileSync(options.survivors, `${lines.toSorted().join('\n')}\n`);
}

/** What the tests that come by a fault make of it. */
async function fateOf(mutant: Mutant): Promise<Fate> {
  const covering = tests
    .filter(({ hits }) => hits[mutant.id] !== undefined)
    .toSorted((a, b) => rank(a, mutant) - rank(b, mutant));
  if (covering.length === 0) return 'not covered';
  const most = Math.max(...covering.map(({ hits }) => hits[mutant.id] ?? 0));
  const usual = covering.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const task = {
    files: covering.map(({ name }) => name),
    mutant: { id: mutant.id, mostHits: 1000 + most * 100 },
  };
  const { ended } = await runTests(task, 20_000 + usual * 4);
  return ended === 'passed' ? 'survived' : ended === 'failed' ? 'killed' : 'endless';
}

function isLeft(fate: Fate | undefined): boolean {
  return fate === 'survived' || fate === 'not covered';
}

/** The tests beside a source notice most; of the others the short ones come first. */
function rank({ name, milliseconds }: TestFile, { file }: Mutant): number {
  const isBeside = name.startsWith(`${dirname(file)}/`);
  const isNamesake = name === file.replace(/\.ts$/, '.test.ts');
  return milliseconds - (isNamesake ? 2_000_000 : isBeside ? 1_000_000 : 0);
}

function copyRepository(): readonly string[] {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
  });
  const names = listed.split('\n').filter((name) => existsSync(join(repository, name || '-')));
  for (const name of names) cpSync(join(repository, name), join(sandbox, name));
  symlinkSync(join(repository, 'node_modules'), join(sandbox, 'node_modules'));
  return names;
}

/** The same mutants for the same seed, as long as their file does not change above them. */
function sampleOf(all: readonly Mutant[], count: number): readonly Mutant[] {
  const order = ({ file, line, column, mutator, replacement }: Mutant) =>
    createHash('sha256')
      .update([options.seed, file, line, column, mutator, replacement].join(' '))
      .digest('hex');
  return all
    .map((mutant) => ({ mutant, key: order(mutant) }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .slice(0, count)
    .map(({ mutant }) => mutant);
}

async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: Number(options.jobs) }, async () => {
      for (const item of left) await work(item);
    }),
  );
}

async function runTests(
  task: object,
  deadlineMs: number,
): Promise<{ readonly ended: 'passed' | 'failed' | 'late'; readonly output: string }> {
  const inside = join(import.meta.dirname, 'inside.ts');
  const reporter = join(import.meta.dirname, 'first-failure.ts');
  const child = spawn(
    process.execPath,
    ['--test-force-exit', `--test-reporter=${reporter}`, inside],
    {
      cwd: sandbox,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        MUTATION_TASK: JSON.stringify(task),
        NODE_COMPILE_CACHE: join(sandbox, '.compiled'),
        NODE_NO_WARNINGS: '1',
      },
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      if (output.length < 10_000) output += chunk.toString();
    });
  }
  let isLate = false;
  const alarm = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, deadlineMs);
  const code = await new Promise<number | null>((done) => child.on('close', done));
  clearTimeout(alarm);
  return { ended: isLate ? 'late' : code === 0 ? 'passed' : 'failed', output };
}

function table(): string {
  const rows = [...folders, 'all'].map((folder) => {
    const isOf = ({ file }: Mutant) => folder === 'all' || file.startsWith(`src/${folder}/`);
    const sampled = chosen.filter(isOf);
    const count = (...kinds: Fate[]) =>
      sampled.filter((mutant) => kinds.includes(fates.get(mutant) ?? 'survived')).length;
    const killed = count('killed', 'endless');
    const share = sampled.length === 0 ? 0 : (100 * killed) / sampled.length;
    return `| ${folder} | ${mutants.filter(isOf).length} | ${sampled.length} | ${killed} | ${count('survived')} | ${count('not covered')} | ${share.toFixed(1)} % |`;
  });
  const seconds = (ms: number) => Math.round(ms / 1000);
  return [
    '| folder | mutants | in the sample | noticed | not noticed | not even run | share noticed |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    '',
    `seed ${options.seed}; ${seconds(prepared - began)} s for the tests without a mutant, ${seconds(Date.now() - prepared)} s for the sample, ${options.jobs} at a time`,
    '',
  ].join('\n');
}
