import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { engines } from '../lab/engine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { pingStream } from '../lab/ping-stream.ts';

for (const engine of engines) {
  describe(`Docker ${engine} with --live-restore`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
      await lab.host.stopDocker();
      await lab.host.startDocker('--live-restore');
    });
    after(async () => {
      await lab[Symbol.asyncDispose]();
    });

    test('a killed dockerd that starts again loses no packet of running containers', async () => {
      await lab.network('web');
      await lab.network('other');
      await lab.server('app', '--net', 'web');
      await lab.client('client', '--net', 'web');
      await lab.client('stranger', '--net', 'other');
      const streams = [
        await pingStream(lab.host, 'client', await lab.address('app', 'web')),
        await pingStream(lab.host, 'app', '203.0.113.2'),
      ];
      await lab.host.killDocker();
      await lab.host.startDocker('--live-restore');
      assert.deepEqual(await Promise.all(streams.map((stream) => stream.lost())), [0, 0]);
      assert.doesNotMatch(lab.host.dockerLog(), /retrying in/);
    });

    test('the policy of the kept containers is in force, and changes reach them', async () => {
      const address = await lab.address('app', 'web');
      assert.equal(await lab.reaches('client', address), true);
      await lab.onlyAfter({
        probe: () => lab.reaches('stranger', address),
        droppedAt: 'app',
        change: () =>
          lab.calico(
            ...'profile web rule add inbound allow tcp from tag other to ports 8080'.split(' '),
          ),
      });
    });

    test('new containers work, by name as well', async () => {
      await lab.client('late', '--net', 'web');
      assert.equal(await lab.reaches('late', 'app'), true);
      assert.equal(await lab.pings('client', 'late'), true);
    });

    test('kept containers that are removed leave nothing', async () => {
      await lab.clear();
      const links = () => lab.host.run(['sh', '-c', 'ip -o link | grep -c cali || true']);
      assert.equal(await lab.eventually(async () => (await links()) === '0'), true);
      assert.equal(await lab.host.run(['ip', 'route', 'show', 'proto', '80']), '');
      assert.match(await lab.calico('ipam', 'check'), /^no problems/);
    });
  });

  describe(`Docker ${engine} with --userns-remap`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
      await lab.host.stopDocker();
      await lab.host.startDocker('--userns-remap=default');
    });
    after(async () => {
      await lab[Symbol.asyncDispose]();
    });

    test('containers reach each other by policy, on several networks as well', async () => {
      await lab.network('web', '--ipv6');
      await lab.network('other');
      await lab.server('app', '--net', 'web');
      await lab.client('client', '--net', 'web');
      await lab.client('stranger', '--net', 'other');
      const root = await lab.docker('exec', 'app', 'cat', '/proc/self/uid_map');
      assert.doesNotMatch(root, /^\s*0\s+0\s/, 'root in the container is another user outside');
      assert.equal(await lab.reaches('client', 'app'), true);
      assert.equal(await lab.reaches('client', await lab.address6('app', 'web')), true);
      assert.equal(await lab.hostReaches(await lab.address('app', 'web')), true);
      const address = await lab.address('app', 'web');
      await lab.onlyAfter({
        probe: () => lab.reaches('stranger', address),
        droppedAt: 'app',
        change: () => lab.docker('network', 'connect', 'web', 'stranger'),
      });
      assert.equal(await lab.reaches('stranger', 'app'), true);
    });
  });
}
