import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

describe('a host without a default route', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'sqlite' }, {}, false);
    await lab.tour('--ipv6');
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('has none', async () => {
    const routes = await lab.host.run([
      'sh',
      '-c',
      'ip route show default; ip -6 route show default',
    ]);
    assert.equal(routes, '');
  });

  test('the next hops answer, so that containers reach each other and the host, IPv4 and IPv6', async () => {
    const addresses = [await lab.address('app', 'web'), await lab.address6('app', 'web')];
    for (const address of addresses) {
      assert.ok(await lab.reaches('inside', address), address);
      assert.ok(await lab.hostReaches(address), address);
    }
    const hops = await lab.docker('exec', 'inside', 'ip', 'neigh');
    assert.match(hops, /^169\.254\.\S+ dev eth0 lladdr ee:ee:ee:ee:ee:ee/m);
    assert.match(hops, /^fe80:\S+ dev eth0 lladdr ee:ee:ee:ee:ee:ee/m);
  });

  test('policy holds there as well', async () => {
    for (const address of [await lab.address('app', 'web'), await lab.address6('app', 'web')]) {
      const rule = ['profile', 'web', 'rule'];
      const words = ['inbound', 'allow', 'from', 'tag', 'other'];
      await lab.onlyAfter({
        probe: () => lab.reaches('outside', address),
        droppedAt: 'app',
        change: () => lab.calico(...rule, 'add', ...words),
      });
      await lab.calico(...rule, 'remove', ...words);
    }
  });
});
