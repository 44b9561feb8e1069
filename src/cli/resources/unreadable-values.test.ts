import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

const signal = AbortSignal.timeout(600_000);
const resources = '/calico/resources/v3/projectcalico.org/';

/** Writes a pool with an invalid selector, like another tool. */
async function writeBadPool(cli: CommandLine): Promise<void> {
  await cli.ok(['get', 'ippool']);
  const store = await openSqliteStore(join(cli.folder, 'calico.db'));
  const value = JSON.stringify({
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'bad' },
    spec: { cidr: '10.99.0.0/16', nodeSelector: '!!! (' },
  });
  const writes = [{ key: `${resources}ippools/bad`, value }];
  const { kind } = await store.commit({ compares: [], writes }, signal);
  assert.equal(kind, 'committed');
  await store.close();
}

test('an unreadable value is replaced by apply and removed by delete', async () => {
  using cli = startCommandLine();
  const mended =
    'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: bad}\nspec: {cidr: 10.99.0.0/16}\n';
  await writeBadPool(cli);
  assert.doesNotMatch(await cli.ok(['get', 'ippool']), /bad/);
  assert.match(await cli.ok(['apply', '-f', '-'], mended), /IPPool bad changed/);
  assert.match(await cli.ok(['get', 'ippool']), /bad .*10\.99\.0\.0\/16/);
  assert.match(await cli.ok(['delete', 'ippool', 'bad']), /bad deleted/);

  await writeBadPool(cli);
  assert.match(await cli.ok(['delete', 'ippool', 'bad']), /bad deleted/);
  assert.match(await cli.ok(['apply', '-f', '-'], mended), /IPPool bad created/);
});
