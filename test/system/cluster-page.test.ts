import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../lab/cluster/cluster.ts';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { oneSegment } from '../lab/cluster/fabric.ts';
import { flowsDuring, pingFlow } from '../lab/cluster/flows.ts';
import { startIslands } from '../lab/cluster/islands.ts';
import { installSystemctl } from '../lab/cluster/systemctl.ts';
import { unlessLong } from '../lab/long.ts';
import { Page } from '../lab/page.ts';
import { outputOrThrow } from '../lab/process.ts';

/** Every command of docs/cluster.md, in its order, on hosts whose containers talk meanwhile. */
describe('docs/cluster.md', { skip: unlessLong(), timeout: 400_000 }, () => {
  let islands: Cluster;
  let token = '';
  const page = new Page('docs/cluster.md', (text) =>
    text.replaceAll('172.16.0.', '198.18.1.').replaceAll('TOKEN', token),
  );
  before(async () => {
    islands = await startIslands(oneSegment(3));
  });
  after(() => islands?.[Symbol.asyncDispose]());

  const hosts = () => {
    const [first, second, third] = islands.hosts;
    assert.ok(first && second && third);
    return { first, second, third };
  };
  /** Runs a command, again until it shows this, and keeps a token that it prints. */
  const until =
    (host: ClusterHost, wanted = /^/) =>
    async (command: string): Promise<string> => {
      const argv = ['sh', '-ec', command];
      for (const deadline = Date.now() + 150_000; ; await sleep(300)) {
        const result = await host.exec(argv, { timeoutMs: 120_000 });
        token = /cluster join \S+ (\S+)/.exec(result.stdout)?.[1] ?? token;
        // A degraded cluster has the exit status 1.
        if (wanted.test(result.stdout) && command.endsWith('status')) return result.stdout;
        if (wanted.test(result.stdout) || Date.now() > deadline) {
          return outputOrThrow(argv, { ...result, stderr: result.stderr + host.host.calicoLog() });
        }
      }
    };
  const healthy = /^cluster \S+: healthy[^]*3 of 3 members/;

  test('from one host to three, and no packet between their containers is lost', async () => {
    const { first, second, third } = hosts();
    await first.network('web', { ipv6: false });
    const [a, b] = [
      await first.run('a', { network: 'web' }),
      await first.run('b', { network: 'web' }),
    ];
    const section = 'From one host to three';
    await flowsDuring([await pingFlow(a, b, b.addresses[0] ?? '')], async () => {
      await page.run(section, until(first));
      await page.run(section, until(second));
      await page.run(section, until(first));
      await page.run(section, until(third));
      await page.run(section, until(second, healthy));
    });
  });

  test('upgrading etcd: its restart, one member after the other, loses nothing', async () => {
    const { first } = hosts();
    const [a, b] = first.containers;
    assert.ok(a && b);
    const section = 'Upgrading etcd';
    await flowsDuring([await pingFlow(a, b, b.addresses[0] ?? '')], async () => {
      await page.run(section, async (command) => {
        for (const host of islands.hosts) {
          await until(host)(command);
          await until(host, healthy)('calico-cnm cluster status');
        }
        return '';
      });
      await page.run(section, until(first, healthy));
    });
  });

  test('replacing a dead member, by a host of the same name', async () => {
    const { first, third } = hosts();
    const [a, b] = first.containers;
    assert.ok(a && b);
    const section = 'Replacing a dead member';
    await flowsDuring([await pingFlow(a, b, b.addresses[0] ?? '')], async () => {
      await third.switchOff();
      await page.run(section, until(first, /2 of 3 members respond/));
      await page.run(section, until(first, /removed/));
      await until(first, /^cluster \S+: healthy/)('calico-cnm cluster status');
      await third.switchOn();
      installSystemctl(third.host.machine);
      // The only member left restarts, to end the connections of the removed host.
      await page.run(section, until(first, /cluster join/));
      await page.run(section, until(third));
      await until(first, healthy)('calico-cnm cluster status');
    });
  });

  test('a member that remains of three goes on alone', async () => {
    const { first, second, third } = hosts();
    await third.network('alone', { ipv6: false });
    const [c, d] = [
      await third.run('c', { network: 'alone' }),
      await third.run('d', { network: 'alone' }),
    ];
    await flowsDuring([await pingFlow(c, d, d.addresses[0] ?? '')], async () => {
      await first.switchOff();
      await second.switchOff();
      await page.run(
        'Hosts that have lost their cluster',
        until(third, /not brought along: 2 other/),
      );
    });
  });

  test('every command of the page was run', () => {
    page.assertAllWasRun();
  });
});
