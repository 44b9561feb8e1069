import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { installSystemctl } from '../lab/cluster/systemctl.ts';
import { startHost } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { ManagedPluginLab, pluginName } from '../lab/managed-plugin.ts';

/** The managed plugin starts no service of the host: it says what to type there. */
describe('a cluster with the managed plugin', { timeout: 400_000, skip: unlessLong() }, () => {
  let lab: ManagedPluginLab;
  before(async () => {
    lab = new ManagedPluginLab(await startHost({ engine: '28.5', uplink: true }));
    await lab.start();
    await lab.create('test');
    await lab.docker('plugin', 'enable', pluginName);
    await lab.isWellAgain();
  });
  after(() => lab?.[Symbol.asyncDispose]());

  test('init prints the commands for the host, and goes on when they were run', async () => {
    await lab.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', 'web');
    await lab.server('webapp', '--net', 'web');
    await lab.client('webclient', '--net', 'web');
    await lab.losesNothing('web', async () => {
      const { status, stderr } = await lab.calicoResult('cluster', 'init');
      assert.equal(status, 1, stderr);
      const [, typed = ''] =
        /^calico-cnm: etcd runs on the host.* again: (.*)$/m.exec(stderr) ?? [];
      const commands = typed.split(' && ');
      const packages = commands.splice(0, 3);
      assert.deepEqual(packages, [
        'systemctl mask etcd.service',
        'apt-get update',
        'apt-get install -y etcd-server etcd-client',
      ]);
      // In place of the packages.
      installSystemctl(lab.host.machine);
      await lab.host.run(['sh', '-ec', commands.join(' && ')]);
      assert.match(
        await lab.calico('cluster', 'init'),
        /^calico-cnm cluster join 203\.0\.113\.2:2381 /,
      );
    });
    assert.match(await lab.calico('cluster', 'status'), /: healthy[^]* member /);
    await lab.isWellAgain();
    await lab.startsAnother('web');
  });
});
