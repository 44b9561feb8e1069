import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isCalicoError } from '../errors/error.ts';
import { ToolRunner } from './process.ts';

const folder = mkdtempSync(join(tmpdir(), 'calico-tools-'));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'lines');
/** Repeats comments, and appends other lines to the file; some lines end it. */
const tool = [
  'sh',
  '-c',
  `while read -r line; do case $line in
    '#'*) echo "$line" ;;
    refused) echo 'first line' >&2; echo second >&2; exit 3 ;;
    killed) kill -9 $$ ;;
    *) echo "$line" >> ${file} ;;
  esac; done`,
];
const lines = () => readFileSync(file, 'utf8').split('\n').slice(0, -1);
const debianPackage = 'dash';

function fed() {
  const runner = new ToolRunner();
  const stopping = new AbortController();
  const feed = async (...input: readonly string[]) =>
    runner.feed(
      tool,
      { input: input.map((line) => `${line}\n`).join(''), debianPackage },
      stopping.signal,
    );
  return { runner, feed, stop: () => stopping.abort() };
}

test('a tool that is fed has acted on its input when it returns, and is started once', async () => {
  rmSync(file, { force: true });
  const { runner, feed, stop } = fed();
  await feed('one', 'two');
  assert.deepEqual(lines(), ['one', 'two']);
  await Promise.all([feed('three'), feed('four')]);
  assert.deepEqual(lines(), ['one', 'two', 'three', 'four']);
  assert.equal(runner.forks, 1);
  stop();
});

test('a tool that ends at an input fails with its status and complaint; the next input starts another', async () => {
  rmSync(file, { force: true });
  const { runner, feed, stop } = fed();
  await feed('one');
  await assert.rejects(
    feed('two', 'refused', 'three'),
    (error) =>
      isCalicoError(error, 'kernel/tool-failed') &&
      error.detail.status === 'status 3' &&
      error.detail.why === 'first line second',
  );
  await assert.rejects(
    feed('killed'),
    (error) => isCalicoError(error, 'kernel/tool-failed') && error.detail.status === 'SIGKILL',
  );
  await feed('four');
  assert.deepEqual(lines(), ['one', 'two', 'four']);
  assert.equal(runner.forks, 3);
  stop();
  await assert.rejects(feed('five'));
});

test('a tool to be fed that does not exist is missing', async () => {
  const runner = new ToolRunner();
  const signal = AbortSignal.timeout(60_000);
  for (let n = 0; n < 2; n++) {
    await assert.rejects(
      runner.feed(['/nonexistent/tool'], { input: '', debianPackage: 'none' }, signal),
      (error) => isCalicoError(error, 'kernel/tool-missing'),
    );
  }
});
