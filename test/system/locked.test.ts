import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { unlessLong } from '../lab/long.ts';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';

/** A datastore that is locked for maintenance, as Calico's migration does, while containers run. */

const kinds: readonly LabKind[] = [
  { engine: '28.5', backend: 'nft', datastore: 'etcd' },
  { engine: '20.10', backend: 'nft', datastore: 'sqlite' },
];

for (const kind of kinds) {
  const skip = kind.datastore === 'sqlite' && unlessLong();
  describe(`a locked datastore, ${kindName(kind)}`, { timeout: 600_000, skip }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab(kind);
      await lab.network('web');
      await lab.server('app', '--net', 'web');
      await lab.client('inside', '--net', 'web');
      for (const name of ['stopped', 'removed']) await lab.client(name, '--net', 'web');
    });
    after(async () => lab?.[Symbol.asyncDispose]());

    /** All that is stored, with its revisions. */
    const contents = async (): Promise<string> => {
      const { etcd } = lab;
      if (etcd !== undefined) return etcd.etcdctl('get', '--prefix', '/', '-w', 'json');
      const kinds = ['workloadendpoint', 'ippool', 'profile', 'node', 'clusterinformation'];
      const texts = await Promise.all(kinds.map((one) => lab.calico('get', one, '-o', 'yaml')));
      return `${texts.join('')}${await lab.calico('ipam', 'show', '--show-blocks')}`;
    };
    const isLocked = / is locked for maintenance .*calico-cnm datastore unlock/;

    test('status, get and whoever wants to write say so; running containers go on', async () => {
      assert.equal(await lab.calico('datastore', 'lock'), 'the datastore is locked');
      const before = await contents();
      const isTold = async () => (await lab.calicoResult('status')).stdout.includes('; locked ');
      assert.ok(await lab.eventually(isTold));
      assert.equal((await lab.calicoResult('status')).status, 1);
      assert.match(await lab.calico('get', 'clusterinformation'), /^default +\S+ +\S+ +false$/m);

      assert.match(
        await lab.refused('run', '--rm', '--net', 'web', 'calico-test', 'true'),
        isLocked,
      );
      assert.match(
        await lab.refused(
          'network',
          'create',
          '-d',
          'calico',
          '--ipam-driver',
          'calico-ipam',
          'new',
        ),
        isLocked,
      );
      const { status, stderr } = await lab.calicoResult('profile', 'add', 'mine');
      assert.equal(status, 1);
      assert.match(stderr, isLocked);

      assert.ok(await lab.reaches('inside', 'app'));
      await lab.docker('stop', '-t', '0', 'stopped');
      await lab.docker('rm', '-f', 'removed');
      assert.ok(await lab.reaches('inside', 'app'));
      assert.equal(await contents(), before, 'nothing was written');
    });

    test('once unlocked all goes on, and what was removed meanwhile is given back', async () => {
      assert.equal(await lab.calico('datastore', 'unlock'), 'the datastore is unlocked');
      const isWell = async () => (await lab.calicoResult('status')).status === 0;
      assert.ok(await lab.eventually(isWell));
      await lab.docker('run', '--rm', '--net', 'web', 'calico-test', 'true');
      await lab.docker('start', 'stopped');
      assert.ok(await lab.reaches('inside', 'app'));
      const endpoints = async () =>
        (await lab.calico('get', 'workloadendpoint'))
          .split('\n')
          .slice(1)
          .map((line) => line.split(' ')[0] ?? '')
          .toSorted();
      const isGivenBack = async () => (await endpoints()).join() === 'app,inside,stopped';
      assert.ok(await lab.eventually(isGivenBack, 120_000), (await endpoints()).join());
      const isClean = async () => (await lab.calicoResult('ipam', 'check')).status === 0;
      assert.ok(await lab.eventually(isClean, 120_000));
      await lab.clear();
      assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    });
  });
}
