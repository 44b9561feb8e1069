import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

/** Hosts on which IPv6 is switched off: on interfaces to come, on all that are there, or on both. */
describe("the host's switches of IPv6", { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'sqlite' });
    await lab.network('web', '--ipv6');
    await lab.network('plain');
  });
  after(async () => lab[Symbol.asyncDispose]());

  const isWell = () => lab.eventually(async () => (await lab.calicoResult('status')).status === 0);
  const set = (which: string, value: number) =>
    lab.host.run(['sysctl', '-qw', `net.ipv6.conf.${which}.disable_ipv6=${value}`]);

  for (const [all, others] of [
    [0, 1],
    [1, 1],
    [1, 0],
    [0, 0],
  ] as const) {
    test(`all=${all}, default=${others}: containers have IPv6 among themselves, and ports are published`, async () => {
      await set('all', all);
      await set('default', others);
      await lab.server('app', '--net', 'web');
      await lab.client('inside', '--net', 'web');
      for (const address of [await lab.address('app', 'web'), await lab.address6('app', 'web')]) {
        assert.ok(await lab.eventually(() => lab.reaches('inside', address)), address);
      }
      await lab.client('server', '--net', 'plain', '-p', '8080:80');
      assert.ok(await isWell(), (await lab.calicoResult('status')).stdout);
      await lab.docker('rm', '-f', 'app', 'inside', 'server');
    });
  }

  test('switched off while containers run, theirs is switched on again', async () => {
    await lab.server('app', '--net', 'web');
    await lab.client('inside', '--net', 'web');
    const address = await lab.address6('app', 'web');
    assert.ok(await lab.eventually(() => lab.reaches('inside', address)));
    await set('all', 1);
    assert.ok(await lab.eventually(() => lab.reaches('inside', address)));
    assert.ok(await isWell());
    await set('all', 0);
    await lab.docker('rm', '-f', 'app', 'inside');
  });
});
