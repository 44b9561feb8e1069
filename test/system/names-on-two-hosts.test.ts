import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startCluster, type Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { engines } from '../lab/engine.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { unlessLong } from '../lab/long.ts';
import { words } from '../lab/words.ts';
import { nextLook, patienceMs } from '../lab/poll.ts';

for (const engine of engines) {
  // names-across-hosts.test.ts runs on both.
  const skip = engine === '20.10' && unlessLong();
  describe(`names on two hosts with Docker ${engine}`, { timeout: 600_000, skip }, () => {
    let cluster: Cluster | undefined;
    before(async () => {
      cluster = await startCluster({ topology: oneSegment(2), docker: engine });
      await cluster.network('web');
    });
    after(() => cluster?.[Symbol.asyncDispose]());

    function hosts() {
      const [first, second] = cluster?.hosts ?? [];
      assert.ok(first && second);
      return { first, second };
    }

    async function start(host: ClusterHost, name: string, ...options: readonly string[]) {
      await host.host.docker(...words`run -d --name ${name} --net web ${options} calico-test`);
      const format = '{{.NetworkSettings.Networks.web.IPAddress}}';
      return host.host.docker('inspect', '-f', format, name);
    }

    /** The IPv4 addresses that a container finds for a name. */
    async function found(host: ClusterHost, container: string, name: string) {
      const lookup = words`docker exec ${container} timeout 8 nslookup -type=a ${name}`;
      const { stdout } = await host.exec(lookup);
      const answers = stdout.split('\n').slice(2).join('\n');
      return [...answers.matchAll(/^Address:\s+([0-9.]+)$/gm)]
        .map(([, one = '']) => one)
        .toSorted();
    }

    async function finds(
      host: ClusterHost,
      container: string,
      [name, ...expected]: readonly [string, ...string[]],
    ): Promise<void> {
      for (const since = Date.now(); ; await nextLook(since)) {
        const addresses = await found(host, container, name);
        if (String(addresses) === String(expected.toSorted())) return;
        if (Date.now() - since > patienceMs) return assert.deepEqual(addresses, expected, name);
      }
    }

    test('containers of both hosts find each other by name, alias and Compose service name', async () => {
      const { first, second } = hosts();
      const shop = ['--network-alias', 'shop'];
      const [a, b] = [
        await start(first, 'shop-1', ...shop),
        await start(second, 'shop-2', ...shop),
      ];
      await finds(first, 'shop-1', ['shop-2', b]);
      await finds(second, 'shop-2', ['shop-1', a]);
      await finds(second, 'shop-2', ['shop-1.web', a]);
      for (const [host, name] of [
        [first, 'shop-1'],
        [second, 'shop-2'],
      ] as const) {
        await finds(host, name, ['shop', a, b]);
        await finds(host, name, ['shop.web', a, b]);
      }
    });

    test('a renamed container has its new name on the other host, and a restarted one its aliases', async () => {
      const { first, second } = hosts();
      await second.host.docker('rename', 'shop-2', 'store');
      const format = '{{.NetworkSettings.Networks.web.IPAddress}}';
      const address = (name: string) => second.host.docker('inspect', '-f', format, name);
      await finds(first, 'shop-1', ['store', await address('store')]);
      await finds(first, 'shop-1', ['shop-2']);
      await second.host.docker('restart', '-t', '0', 'store');
      const own = await first.host.docker('inspect', '-f', format, 'shop-1');
      await finds(first, 'shop-1', ['shop', own, await address('store')]);
    });

    test('the name of a removed container is gone on the other host', async () => {
      const { first, second } = hosts();
      await second.host.docker('rm', '-f', 'store');
      await finds(first, 'shop-1', ['store']);
      const own = await found(first, 'shop-1', 'shop-1');
      await finds(first, 'shop-1', ['shop', ...own]);
    });
  });
}
