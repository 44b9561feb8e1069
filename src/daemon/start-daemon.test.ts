import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startDaemon } from './start-daemon.ts';

test('a wrong setting ends the start with one line and an exit status that prevents restarts', async () => {
  const said: string[] = [];
  const environment = { CALICO_LOG_LEVEL: 'loud' };
  const { signal } = new AbortController();
  const error = (text: string) => void said.push(text);
  assert.equal(await startDaemon({ environment, signal, error }), 78);
  assert.match(said.join(''), /^calico-cnm: .*CALICO_LOG_LEVEL.*\n$/);
});
