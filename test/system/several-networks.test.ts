import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { engines, moreEngines, type Engine } from '../lab/engine.ts';
import { unlessLong } from '../lab/long.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { NetworkMix } from '../lab/network-mix.ts';
import { words } from '../lab/words.ts';

const isLong = unlessLong() === false;
const tried = isLong ? moreEngines : engines;
const seed = Number(process.env['CALICO_TEST_SEED'] ?? 1);

// Side by side, as most of their time is Docker's and the slow disks'.
describe('a container on several networks', { concurrency: 4 }, () => {
  for (const [index, engine] of tried.entries()) suite(engine, index);
});

function suite(engine: Engine, index: number): void {
  describe(`Docker ${engine}`, { timeout: 3_600_000, concurrency: 1 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
    });
    afterEach(() => lab.clear());
    after(async () => lab[Symbol.asyncDispose]());

    test('the default route comes back when the network that took it is left', async () => {
      const defaultRoute = () => lab.docker('exec', 'moved', 'ip', 'route', 'show', 'default');
      await lab.docker('network', 'create', 'aa');
      await lab.network('n0', '--subnet', '10.90.0.0/24', '--gateway', '10.90.0.1');
      await lab.client('moved', '--net', 'n0');
      await lab.docker('network', 'connect', 'aa', 'moved');
      assert.doesNotMatch(await defaultRoute(), /via 10\.90\./, 'it leads over the bridge');
      await lab.docker('network', 'disconnect', 'aa', 'moved');
      assert.match(await defaultRoute(), /^default via 10\.90\.0\.1 /);
    });

    test('routes that cannot be set are named by status and set as soon as they can', async () => {
      await lab.docker('network', 'create', 'aa');
      await lab.network('n0');
      await lab.server('app', '--net', 'n0');
      await lab.client('torn', '--net', 'aa');
      await lab.docker('network', 'connect', 'n0', 'torn');
      const address = await lab.address('app', 'n0');
      assert.ok(await lab.eventually(() => lab.reaches('torn', address)));
      const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', 'torn');
      const setLink = (state: string) =>
        lab.host.run(words`nsenter -t ${pid} -n ip link set eth1 ${state}`);
      const isNamed = async () =>
        (await lab.status()).checks.some(({ name, ok }) => name === 'container torn' && !ok);
      assert.equal(await isNamed(), false);
      await setLink('down');
      // Whatever network a container is connected to, its routes are looked at.
      await lab.docker('network', 'create', 'bb');
      await lab.docker('network', 'connect', 'bb', 'torn');
      assert.ok(await lab.eventually(isNamed));
      await setLink('up');
      assert.ok(await lab.eventually(async () => !(await isNamed())));
      assert.ok(await lab.eventually(() => lab.reaches('torn', address)));
    });

    test(
      'Compose starts a service on two networks, one with its gateway in the subnet',
      { skip: engine === '28.5' ? false : 'this engine has no docker compose' },
      async () => {
        const input = JSON.stringify({
          services: {
            app: {
              image: 'calico-test',
              pull_policy: 'never',
              stop_signal: 'SIGKILL',
              networks: ['front', 'back'],
            },
          },
          networks: {
            front: { driver: 'calico', ipam: { driver: 'calico-ipam' } },
            back: {
              driver: 'calico',
              ipam: {
                driver: 'calico-ipam',
                config: [{ subnet: '10.90.0.0/24', gateway: '10.90.0.1' }],
              },
            },
          },
        });
        const compose = (...argv: readonly string[]) =>
          lab.host.run(words`docker compose --file - --project-name stack ${argv}`, { input });
        for (let turn = 0; turn < (isLong ? 5 : 2); turn++) {
          await compose('up', '--detach', '--scale', 'app=2');
          await compose('down', '--timeout', '1');
        }
      },
    );

    test('whatever its networks are, it starts, reaches its peers and is reached by them', async (t) => {
      const steps = Number(process.env['CALICO_TEST_STEPS'] ?? (isLong ? 2000 : 28));
      // The engines share the pairs of kinds, unless there is time for all on each.
      const isOwn = (pair: number) => isLong || pair % tried.length === index;
      const mix = new NetworkMix(lab, { seed, isOwn });
      await mix.start();
      const { failures, pairs, ...made } = await mix.run(steps);
      t.diagnostic(`${failures.length} of ${made.steps} steps failed, seed ${seed}`);
      for (const [pair, { steps: tried, failures: failed }] of pairs) {
        if (failed > 0) t.diagnostic(`${pair}: ${failed} of ${tried}`);
      }
      for (const { step, networks, why } of failures) {
        t.diagnostic(`${step} ${networks.join()}: ${why.replaceAll('\n', '; ')}`);
      }
      assert.deepEqual(failures, []);
    });
  });

  const skip = engine !== '28.5' && unlessLong();
  describe(`Docker ${engine} on a slow disk`, { timeout: 900_000, skip, concurrency: 1 }, () => {
    let lab: NetworkLab;
    before(async () => {
      const writesPerSecond = isLong ? 20 : 60;
      lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite', writesPerSecond });
      await lab.docker('network', 'create', 'abridge');
      await lab.network('web');
      await lab.server('app', '--net', 'web');
    });
    after(async () => lab[Symbol.asyncDispose]());

    test('one that runs on a bridge reaches the peers of a network that it is connected to', async () => {
      const app = await lab.address('app', 'web');
      const missed: string[] = [];
      for (let turn = 0; turn < (isLong ? 10 : 3); turn++) {
        const name = `runs${turn}`;
        await lab.client(name, '--net', 'abridge');
        await lab.docker('network', 'connect', 'web', name);
        const route = await lab.docker('exec', name, 'ip', 'route', 'show', 'default');
        assert.match(route, /dev eth0/, 'the default route stays where it was');
        if (!(await lab.eventually(() => lab.reaches(name, app)))) missed.push(name);
        await lab.docker('rm', '-f', name);
      }
      assert.deepEqual(missed, []);
    });
  });
}
