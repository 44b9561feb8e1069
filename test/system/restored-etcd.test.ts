import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { unlessLong } from '../lab/long.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { pingStream } from '../lab/ping-stream.ts';
import { words } from '../lab/words.ts';

/** etcd is restored from a backup that is older than what runs on its host. */
describe('an etcd that was restored from a backup', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '20.10', backend: 'nft', datastore: 'etcd' });
    await lab.network('web');
    await lab.server('app', '--net', 'web');
    await lab.client('gone', '--net', 'web');
  });
  after(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test('containers younger than the backup lose no packet, and keep their addresses', async () => {
    await lab.calico('cluster', 'backup', '/run/backup.db');
    await lab.docker('rm', '-f', 'gone');
    await lab.network('later');
    for (const name of ['one', 'two']) await lab.client(name, '--net', 'web');
    await lab.client('three', '--net', 'later');
    const names = ['app', 'one', 'two'] as const;
    const before = await Promise.all(names.map((name) => lab.address(name, 'web')));
    const [app = '', one = ''] = before;
    const streams = [
      await pingStream(lab.host, 'one', app),
      await pingStream(lab.host, 'app', one),
      await pingStream(lab.host, 'two', one),
    ];
    assert.ok(lab.etcd !== undefined);
    await lab.etcd.restore(lab.host.path('/run/backup.db'));
    const isTaken = async () => /own state written/.test(lab.host.calicoLog());
    assert.ok(await lab.eventually(isTaken), lab.host.calicoLog());
    for (const name of ['x1', 'x2', 'x3']) await lab.client(name, '--net', 'web');
    const lost = await Promise.all(streams.map((stream) => stream.lost()));
    assert.deepEqual(lost, [0, 0, 0]);
    const all = [...names, 'x1', 'x2', 'x3'];
    const addresses = await Promise.all(all.map((name) => lab.address(name, 'web')));
    assert.equal(new Set(addresses).size, all.length);
    assert.deepEqual(addresses.slice(0, 3), before);
    assert.match(await lab.calico('ipam', 'check'), /no problems found/);
    await lab.docker('restart', '-t', '0', 'two');
    assert.ok(await lab.reaches('two', app));
    await lab.docker(...words`rm -f three`);
  });

  const long = { skip: unlessLong() };
  test(
    'a daemon that was stopped during the restore writes what it knew, before an address is allocated',
    long,
    async () => {
      const names = ['app', 'one', 'two', 'x1'] as const;
      await lab.calico('cluster', 'backup', '/run/second.db');
      for (const name of ['y1', 'y2', 'y3']) await lab.client(name, '--net', 'web');
      const before = await Promise.all(['y1', 'y2', 'y3'].map((name) => lab.address(name, 'web')));
      await lab.host.stopCalico();
      assert.ok(lab.etcd !== undefined);
      await lab.etcd.restore(lab.host.path('/run/second.db'));
      await lab.host.startCalico(lab.environment);
      for (const name of ['z1', 'z2', 'z3']) await lab.client(name, '--net', 'web');
      const all = [...names, 'y1', 'y2', 'y3', 'z1', 'z2', 'z3'];
      const addresses = await Promise.all(all.map((name) => lab.address(name, 'web')));
      assert.equal(new Set(addresses).size, all.length, addresses.join(' '));
      assert.deepEqual(addresses.slice(4, 7), before);
      assert.ok(await lab.reaches('y1', addresses[0] ?? ''));
      assert.match(await lab.calico('ipam', 'check'), /no problems found/);
      await lab.docker('network', 'rm', 'later');
    },
  );
});
