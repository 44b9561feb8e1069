import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

/** Has Node warn all the time, as of a library that uses something deprecated or leaks a listener. */
const warning = `data:text/javascript,${encodeURIComponent(
  `setInterval(() => process.emitWarning('raw', 'DeprecationWarning'), 1).unref(); process.emitWarning('raw')`,
)}`;

for (const argv of [['version'], ['run'], ['get', 'nothing'], ['apply', '-f', '-']]) {
  test(`calico-cnm ${argv.join(' ')} says nothing of what Node warns of`, () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [`--import=${warning}`, `${import.meta.dirname}/main.ts`, ...argv],
      {
        encoding: 'utf8',
        input: '? [a, b]\n: 1\n',
        env: { CALICO_MTU: 'wrong', NODE_NO_WARNINGS: '0' },
      },
    );
    assert.match(`${stdout}${stderr}`, /^calico-cnm[: ].*\n$/, 'one line');
  });
}
