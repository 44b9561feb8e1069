import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

/** Fills the heap of a process that was started to stay small; returns the number of its collections. */
function collections(prepare: string): number {
  const program = `
    import { PerformanceObserver, constants } from 'node:perf_hooks';
    import { setImmediate } from 'node:timers/promises';
    import { growHeap } from '${join(import.meta.dirname, 'heap-growth.ts')}';
    let count = 0;
    const isMajor = ({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
    new PerformanceObserver((list) => (count += list.getEntries().filter(isMajor).length))
      .observe({ entryTypes: ['gc'] });
    ${prepare}
    const kept = [];
    for (let turn = 0; turn < 3000; turn++) {
      for (let n = 0; n < 200; n++) kept.push(JSON.parse('{"text":"' + turn + ' of many ' + n + '","list":[' + n + ']}'));
      await setImmediate();
    }
    console.log(count, kept.length);
  `;
  const argv = ['--optimize-for-size', '--max-semi-space-size=2', '--input-type=module', '-e'];
  return Number.parseInt(execFileSync(process.execPath, [...argv, program], { encoding: 'utf8' }));
}

test('a process that stays small collects less often while its heap fills, and as usual afterwards', () => {
  const usual = collections('');
  const filling = collections('growHeap(true)');
  const afterwards = collections('growHeap(true); growHeap(false)');
  assert.ok(filling < usual, `${filling} instead of ${usual} collections`);
  assert.ok(afterwards > filling, `${afterwards} collections, ${filling} while it filled`);
});
