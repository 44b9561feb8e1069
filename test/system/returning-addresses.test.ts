import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ComposeProject } from '../lab/compose.ts';
import { engines } from '../lab/engine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const alone = ['one', 'two', 'three'];

for (const engine of engines) {
  describe(`addresses that return, Docker ${engine}`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
      await lab.network('web', '--ipv6');
      await lab.client('app', '--net', 'web', '--restart', 'always');
    });
    after(async () => lab[Symbol.asyncDispose]());

    const addresses = async (name: string) => [
      await lab.address(name, 'web'),
      await lab.address6(name, 'web'),
    ];

    test('a container that is restarted, or dies and is started by Docker, has its addresses again', async () => {
      const had = await addresses('app');
      await lab.docker(...words`restart -t 0 app`);
      assert.deepEqual(await addresses('app'), had);
      const restarts = () =>
        lab.docker('inspect', '-f', '{{.RestartCount}} {{.State.Running}}', 'app');
      await lab.host.run(['sh', '-c', `kill -9 $(docker inspect -f '{{.State.Pid}}' app)`]);
      assert.ok(await lab.eventually(async () => (await restarts()) === '1 true'));
      // Docker says that it runs before it says its addresses.
      assert.ok(
        await lab.eventually(async () => (await addresses('app')).every((one) => one !== '')),
      );
      assert.deepEqual(await addresses('app'), had);
    });

    test('nobody else has them meanwhile, and they return to a container of the same name', async () => {
      const had = await addresses('app');
      await lab.docker(...words`stop -t 0 app`);
      for (const name of ['other1', 'other2']) {
        await lab.client(name, '--net', 'web');
        const given = await addresses(name);
        assert.ok(!given.some((address) => had.includes(address)), `${name} has ${given.join()}`);
      }
      await lab.docker('start', 'app');
      assert.deepEqual(await addresses('app'), had);
      await lab.docker('rm', '-f', 'app');
      await lab.client('app', '--net', 'web');
      assert.deepEqual(await addresses('app'), had);
    });

    test('they return after a crash and a boot to the only container of a network', async () => {
      await lab.docker('rm', '-f', 'app', 'other1', 'other2');
      // So that Docker stops them at once.
      const options = words`--restart always --stop-signal SIGKILL`;
      for (const name of alone) {
        await lab.network(`net-${name}`);
        await lab.client(name, '--net', `net-${name}`, ...options);
      }
      const all = () => Promise.all(alone.map((name) => lab.address(name, `net-${name}`)));
      const had = await all();
      assert.equal(new Set(had).size, alone.length);
      await lab.host.killDocker();
      await lab.host.startDocker();
      assert.deepEqual(await all(), had, 'after a crash of dockerd');
      await lab.host.stopDocker();
      await lab.host.killCalico();
      await lab.host.startCalico(lab.environment);
      await lab.host.startDocker();
      assert.deepEqual(await all(), had, 'after a boot');
    });

    test(
      'Compose recreates a container with its address',
      { skip: engine !== '28.5' && 'this engine has no docker compose' },
      async () => {
        const project = await ComposeProject.make(lab, 'shop', {
          network: 'calico',
          containers: 1,
        });
        await project.up();
        const had = await project.addresses();
        await project.up('--force-recreate');
        assert.deepEqual(await project.addresses(), had);
        await project.down();
      },
    );
  });
}
