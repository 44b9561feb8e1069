import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { cacheFolder, engines, type Engine } from '../lab/engine.ts';
import { startHost } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { NetworkLab, startLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const environment = { NODENAME: 'host-1' };
const isLong = unlessLong() === false;
const open = Array.from({ length: isLong ? 9 : 6 }, (_, index) => `open${index + 1}`);
const locked = Array.from({ length: isLong ? 10 : 4 }, (_, index) => `locked${index + 1}`);
/** How many of the open ones are on `web`; the others have addresses of their own on `fixed`. */
const onWeb = isLong ? 5 : 4;
const containers = [...open, ...locked, 'prober'].length;
/** Asks one that its labels lock, and one that is open, again and again; what it gets is in its log. */
const prober = `while :; do
  timeout 1 wget -qO /dev/null locked1:8080 && echo LEAK
  timeout 1 wget -qO /dev/null open1:8080 && echo reached
  sleep 0.1
done`;

// Side by side, as most of their time is Docker's.
describe('boots', { concurrency: 2, timeout: 900_000 }, () => {
  for (const engine of engines) suite(engine);
});

function suite(engine: Engine): void {
  describe(
    `${containers} containers that start again by themselves, Docker ${engine}`,
    { timeout: 600_000, concurrency: 1 },
    () => {
      let disk: string;
      let lab: NetworkLab;
      before(async () => {
        mkdirSync(cacheFolder(), { recursive: true });
        disk = mkdtempSync(`${cacheFolder()}/disk-`);
        lab = await boot();
        await lab.network('web');
        await lab.network('fixed', '--subnet', '10.88.0.0/24');
        await lab.calico('profile', 'add', 'locked');
        await lab.calico(...words`profile locked rule add inbound deny tcp to ports 8080`);
        const again = ['--restart', 'always'];
        await Promise.all([
          ...open.map((name, index) =>
            lab.server(
              name,
              ...again,
              ...(index < onWeb
                ? ['--net', 'web']
                : ['--net', 'fixed', '--ip', `10.88.0.${100 + index}`]),
            ),
          ),
          ...locked.map((name) =>
            lab.server(name, ...words`${again} --net web --label org.projectcalico.profile=locked`),
          ),
        ]);
        await lab.docker(
          ...words`run -d --name prober ${again} --net web calico-test sh -c ${prober}`,
        );
        await isAsItWas(0);
      });
      after(async () => {
        await lab[Symbol.asyncDispose]();
        rmSync(disk, { recursive: true, force: true });
      });

      async function boot(): Promise<NetworkLab> {
        const host = await startHost({ engine, uplink: true, disk });
        await host.startCalico(environment);
        await host.startDocker();
        return new NetworkLab(host, undefined, environment);
      }

      /** All run, those that may be reached were, the others never, and nobody waited for a plugin. */
      async function isAsItWas(reachedBefore: number): Promise<void> {
        const states = async () =>
          (await lab.docker('ps', '-a', '--format', '{{.Names}} {{.State}}')).split('\n');
        const areUp = async () =>
          (await states()).filter((line) => line.endsWith(' running')).length === containers;
        assert.ok(await lab.eventually(areUp, 150_000), (await states()).join());
        const probed = () => lab.docker('logs', 'prober');
        const isReached = async () => countReached(await probed()) > reachedBefore + 5;
        assert.ok(await lab.eventually(isReached), 'the allowed probe works');
        assert.doesNotMatch(await probed(), /LEAK/);
        assert.ok((await lab.dropped('locked1', /Profile locked/)) > 0);
        assert.doesNotMatch(lab.host.dockerLog(), /retrying in/);
        for (const [index, name] of open.entries()) {
          if (index < onWeb) continue;
          assert.equal(await lab.address(name, 'fixed'), `10.88.0.${100 + index}`);
        }
        assert.equal((await lab.calicoResult('status')).status, 0);
      }

      const countReached = (log: string) =>
        log.split('\n').filter((line) => line === 'reached').length;

      // In a short run one of both on each engine.
      const skipKill = engine === '28.5' && unlessLong();
      const skipCut = engine === '20.10' && unlessLong();

      test(
        'after a kill of dockerd and calico-cnm all are up, with policy in force throughout',
        { skip: skipKill },
        async () => {
          const reached = countReached(await lab.docker('logs', 'prober'));
          await lab.host.killDocker();
          await lab.host.killCalico();
          await lab.host.startCalico(environment);
          await lab.host.startDocker();
          await isAsItWas(reached);
        },
      );

      test(
        'after a power cut and a boot all are up, with policy in force throughout',
        { skip: skipCut },
        async () => {
          const reached = countReached(await lab.docker('logs', 'prober'));
          await lab[Symbol.asyncDispose]();
          lab = await boot();
          await isAsItWas(reached);
        },
      );
    },
  );

  const isNewer = engine === '28.5' && unlessLong();
  describe(
    `a boot without a datastore, Docker ${engine}`,
    { timeout: 600_000, skip: isNewer, concurrency: 1 },
    () => {
      let lab: NetworkLab;
      before(async () => {
        lab = await startLab({ engine, backend: 'nft', datastore: 'etcd' });
      });
      after(async () => lab[Symbol.asyncDispose]());

      test('containers that failed to start only for that are started when it is back, and no others', async () => {
        await lab.network('web');
        await lab.server('app', '--net', 'web', '--restart', 'always');
        await lab.server('stopped', '--net', 'web', '--restart', 'unless-stopped');
        await lab.docker('stop', '-t', '0', 'stopped');
        await lab.client('once', '--net', 'web');
        await lab.docker('stop', '-t', '0', 'once');
        await lab.host.killDocker();
        await lab.host.killCalico();
        await lab.etcd?.stop();
        await lab.host.startCalico(lab.environment);
        await lab.host.startDocker();
        await lab.refused('start', 'once');
        const state = (name: string) => lab.docker('inspect', '-f', '{{.State.Status}}', name);
        const failed = async () =>
          /datastore/.test(await lab.docker('inspect', '-f', '{{.State.Error}}', 'app'));
        assert.ok(await lab.eventually(failed));
        assert.equal(await state('app'), 'exited');
        await lab.etcd?.start();
        assert.ok(await lab.eventually(async () => (await state('app')) === 'running'));
        await lab.client('inside', '--net', 'web');
        assert.ok(await lab.reaches('inside', 'app'));
        assert.equal(await state('stopped'), 'exited');
        assert.equal(await state('once'), 'exited');
      });
    },
  );

  // Docker waits 15 s for each network and each container.
  const skip = engine === '20.10' && unlessLong();
  describe(
    `a boot without the daemon, Docker ${engine}`,
    { timeout: 600_000, skip, concurrency: 1 },
    () => {
      let lab: NetworkLab;
      before(async () => {
        lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
      });
      after(async () => lab[Symbol.asyncDispose]());

      test('containers that failed to start only for that are started when it is there, and no others', async () => {
        await lab.network('web');
        await lab.server('app', '--net', 'web', '--restart', 'always');
        await lab.server('stopped', '--net', 'web', '--restart', 'unless-stopped');
        await lab.docker('stop', '-t', '0', 'stopped');
        await lab.client('once', '--net', 'web');
        await lab.host.killDocker();
        await lab.host.killCalico();
        await lab.host.startDocker();
        const state = (name: string) => lab.docker('inspect', '-f', '{{.State.Status}}', name);
        const hasFailed = async () =>
          /calico/.test(await lab.docker('inspect', '-f', '{{.State.Error}}', 'app'));
        assert.ok(await lab.eventually(hasFailed));
        assert.equal(await state('app'), 'exited');
        await lab.host.startCalico(lab.environment);
        assert.ok(await lab.eventually(async () => (await state('app')) === 'running'));
        await lab.client('inside', '--net', 'web');
        assert.ok(await lab.reaches('inside', 'app'));
        assert.equal(await state('stopped'), 'exited');
        assert.equal(await state('once'), 'exited');
      });
    },
  );
}
