import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { engineRoot } from '../lab/engine.ts';
import { outputOf, ownEnvironment, runCommand } from '../lab/process.ts';

/** How a run of node:test ended whose one file has the given text, as test/run does it. */
interface Run {
  readonly status: number;
  readonly output: string;
  /** What test/reporter.ts wrote. */
  readonly counted: readonly string[];
  /** What test/leftovers printed after it and not before. */
  readonly left: string;
}

describe('the run of the tests itself', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'calico-run-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const run = async (text: string): Promise<Run> => {
    const temporary = mkdtempSync(join(folder, 'tmp-'));
    const file = join(folder, 'one.test.ts');
    const counts = join(folder, 'counts');
    const imports = `
      import { after, before, describe, test } from 'node:test';
      import { mkdtempSync } from 'node:fs';
      import { startMachine } from '${checkout}/test/lab/machine.ts';
      import { startEtcd } from '${checkout}/test/lab/etcd.ts';`;
    writeFileSync(file, `${imports}\n${text}`);
    const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
    const counting = [
      `--test-reporter=${checkout}/test/reporter.ts`,
      `--test-reporter-destination=${counts}`,
    ];
    const { NODE_TEST_CONTEXT: _, ...environment } = ownEnvironment();
    const env = { ...environment, TMPDIR: temporary };
    const leftovers = async () =>
      (await outputOf([`${checkout}/test/leftovers`], { env })).split('\n');
    const before = new Set(await leftovers());
    const { status, stdout, stderr } = await runCommand(
      [process.execPath, '--test', '--test-force-exit', ...reporters, ...counting, file],
      { env, timeoutMs: 120_000 },
    );
    // A test beside this one may just be ending a Docker plugin, whose control group says nothing of its run.
    const left = (await leftovers())
      .filter((line) => !before.has(line) && !/^control group [0-9a-f]{64}$/.test(line))
      .join('\n');
    const counted = readFileSync(counts, 'utf8').trim().split('\n');
    return { status, output: `${stdout}${stderr}`, counted, left };
  };

  test('what passes is counted, and nothing else', async () => {
    const { status, counted, left } = await run(
      `describe('suite', () => { test('one', () => {}); test('two', { skip: 'why' }, () => {}); });`,
    );
    assert.deepEqual([status, counted.at(-1), left], [0, 'counts 1 0 1', '']);
  });

  for (const [where, text] of [
    ['before', `describe('s', () => { before(() => { throw new Error(); }); });`],
    [
      'after',
      `describe('s', () => { after(() => { throw new Error(); }); test('t', () => {}); });`,
    ],
    [
      'after, of an inner suite,',
      `describe('s', () => { describe('i', () => { after(async () => { throw new Error(); }); test('t', () => {}); }); });`,
    ],
    ['after, of the file,', `after(() => { throw new Error(); }); test('t', () => {});`],
    ['the suite itself', `describe('s', () => { throw new Error(); });`],
    ['the file', `throw new Error();`],
  ] as const) {
    test(`what ${where} throws is a failure, counted once`, async () => {
      const { status, counted } = await run(text);
      assert.equal(status, 1);
      assert.match(counted.at(-1) ?? '', /^counts [01] 1 0$/);
      assert.equal(counted.filter((line) => line.startsWith('failed: ')).length, 1);
    });
  }

  test('a suite that fails before its tests ends at once, and what it had started is ended and named', async () => {
    const root = await engineRoot('20.10');
    const { status, output, counted, left } = await run(`
      describe('suite', () => {
        before(async () => {
          const machine = await startMachine({ root: '${root}', backend: 'nft', uplink: false });
          machine.spawn(['sleep', '10000']);
          await startEtcd();
          throw new Error('half-way');
        });
        test('never', () => {});
      });`);
    assert.equal(status, 1);
    assert.match(output, /left running: .*calico-lab-\d+-1.*sleep 10000.*etcd/);
    // The test, the suite, and what was left.
    assert.equal(counted.at(-1), 'counts 0 3 0');
    assert.match(left, /^temporary file calico-etcd-\S+$/);
  });

  test('a process and a file that outlive the run are found', async () => {
    const { status, left, output } = await run(`
      import { spawn } from 'node:child_process';
      test('leaves', () => {
        mkdtempSync(process.env.TMPDIR + '/calico-left-');
        const sleep = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
        sleep.unref();
        process.stdout.write('sleep is ' + sleep.pid + '\\n');
      });`);
    const [, pid] = /sleep is (\d+)/.exec(output) ?? assert.fail(output);
    process.kill(Number(pid));
    assert.equal(status, 0);
    assert.match(left, /^temporary file calico-left-\S+\nprocess sleep 60$/m);
  });
});
