import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import type { ClusterHost } from '../lab/cluster/cluster-host.ts';
import { OwnCluster } from '../lab/cluster/own-cluster.ts';
import { killAt, runKilled, unlessStrace, type KillPoint } from '../lab/killed-call.ts';
import { unlessLong } from '../lab/long.ts';

const skip = unlessLong();
const isLong = skip === false;

/**
 * `cluster init` and `cluster join` are killed at every step, and their daemon too, while containers send 100 packets a
 * second. Whatever was done until then, the host goes on, and the repeated command ends it.
 */
describe(
  'init and join, killed and run again',
  { skip: unlessStrace(), timeout: 1_200_000 },
  () => {
    let cluster: OwnCluster;
    /** A join whose token is valid for a minute. */
    let shortLine: readonly string[] = [];
    let expires = 0;
    before(async () => {
      cluster = await OwnCluster.start(isLong ? 7 : 1);
    });
    after(() => cluster?.[Symbol.asyncDispose]());

    /** The host works: Docker's calls are served, and its daemon is well. */
    const works = async (host: ClusterHost) => {
      await cluster.allocate(host);
      await cluster.well(host);
    };
    const interruption = /FAIL {2}cluster command: calico-cnm cluster \w+ was interrupted \(/;
    let named = 0;
    /** As `works`, after a command was killed: status names it, and says what to type, or the command had ended. */
    const worksOn = async (host: ClusterHost, command: string) => {
      await cluster.allocate(host);
      await cluster.well(host, interruption);
      const { stdout } = await host.tryCalico('status');
      if (!interruption.test(stdout)) return;
      const said = new RegExp(
        `calico-cnm cluster ${command} was interrupted \\(.*\\)\n +Run it again to finish it: calico-cnm cluster ${command}`,
      );
      assert.match(stdout, said);
      const { stderr } = await host.tryCalico('cluster', 'status');
      assert.match(
        stderr,
        new RegExp(
          `^calico-cnm: calico-cnm cluster ${command} was interrupted on this host \\(.*run it again`,
        ),
      );
      named++;
    };
    /**
     * Kills a command before the first call of a kind, then before a later one, and so on, until it ends by itself.
     */
    const killCommand = async (
      host: ClusterHost,
      argv: readonly string[],
      { call, step = 1 }: { readonly call: KillPoint['call']; readonly step?: number },
    ): Promise<void> => {
      const seen: string[] = [];
      for (let at = 1; ;) {
        const killed = await runKilled(host.host.machine, ['calico-cnm', ...argv], { call, at });
        if (killed.call === undefined) {
          report(`${host.name} ${argv.slice(0, 2).join(' ')}, ${call}`, seen);
          // If it was killed when it had nothing to do but to print the command for the next host, it names that.
          if (killed.status !== 0) assert.match(killed.output, /calico-cnm cluster token create/);
          return;
        }
        const isNew = !seen.includes(killed.call);
        seen.push(killed.call);
        // What an earlier run has done does not count any more.
        at = step === 1 && isNew ? Math.max(1, at - 2) : at + step;
        await worksOn(host, argv[1] ?? '');
      }
    };
    /** Kills the daemon while the command runs, before later and later calls, until the command succeeds. */
    const killDaemon = async (
      host: ClusterHost,
      argv: readonly string[],
      { call, step }: { readonly call: KillPoint['call']; readonly step: number },
    ): Promise<void> => {
      const seen: string[] = [];
      for (let at = 1; ; at += step) {
        const [pid] = host.host.calicoProcess?.pids ?? [];
        const doomed = await killAt(pid ?? assert.fail('no daemon'), { call, at });
        const result = await host.tryCalico(...argv);
        // The command may notice the end before strace has reported it.
        if (result.stderr.includes('the daemon is not running')) await doomed.over();
        const killed = doomed.killedAt();
        await doomed[Symbol.asyncDispose]();
        if (killed !== undefined) {
          seen.push(`${killed} after ${result.stderr.trimEnd().split('\n').slice(-2)[0]}`);
          await host.host.calicoProcess?.ended();
          await host.startCalico();
          await worksOn(host, argv[1] ?? '');
        }
        if (result.status === 0) break;
        assert.ok(killed !== undefined, `${result.stderr}\n${seen.join('\n')}`);
      }
      report(`daemon of ${host.name}, ${argv.slice(0, 2).join(' ')}, ${call}`, seen);
    };
    const report = (what: string, seen: readonly string[]) => {
      const lines = seen.map((one) => `  ${one.slice(0, 150)}\n`).join('');
      process.stdout.write(`${what}: killed ${seen.length} times\n${lines}`);
    };
    const quiet = (host: ClusterHost, happens: () => Promise<void>) =>
      cluster.undisturbed([host], {}, happens);

    test('init, whenever it replaces a file', async () => {
      const host = cluster.host(1);
      await quiet(host, () =>
        killCommand(host, ['cluster', 'init'], { call: 'rename', step: isLong ? 1 : 5 }),
      );
      assert.ok(named > 0, 'status names an interrupted init');
      await cluster.healthy(host, 1);
      await works(host);
      shortLine = await cluster.joinLine(host, '--ttl', '1');
      expires = Date.now() + 60_000;
    });

    test('init, while it sends', { skip }, async () => {
      const host = cluster.host(2);
      await quiet(host, () => killCommand(host, ['cluster', 'init'], { call: 'write', step: 6 }));
      await cluster.healthy(host, 1);
      await works(host);
    });

    test('init, while its daemon changes the file that it moves', { skip }, async () => {
      const host = cluster.host(3);
      await quiet(host, () => killDaemon(host, ['cluster', 'init'], { call: 'pwrite64', step: 3 }));
      await cluster.healthy(host, 1);
      await works(host);
    });

    test('join, whenever it replaces a file', { skip }, async () => {
      const [first, host] = [cluster.host(1), cluster.host(4)];
      const line = await cluster.joinLine(first);
      await quiet(host, () => killCommand(host, line, { call: 'rename' }));
      await works(host);
    });

    test('join, while its daemon sends', { skip }, async () => {
      const [first, host] = [cluster.host(1), cluster.host(5)];
      const line = await cluster.joinLine(first);
      await quiet(host, () => killDaemon(host, line, { call: 'writev', step: 4 }));
      await works(host);
      await cluster.healthy(first);
    });

    let loser = 7;
    test(
      'of two hosts with one token, one joins; an expired one is of no use',
      { skip },
      async () => {
        const [one, other] = [cluster.host(6), cluster.host(7)];
        const line = await cluster.joinLine(cluster.host(1));
        const results = await Promise.all([one, other].map((host) => host.tryCalico(...line)));
        const [lost, ...more] = results.filter(({ status }) => status !== 0);
        assert.ok(lost !== undefined && more.length === 0, JSON.stringify(results));
        assert.match(
          lost.stderr,
          /because another host has used it; create another one on a member/,
        );
        loser = 6 + results.indexOf(lost);
        assert.ok(expires < Date.now(), 'a minute is over');
        const late = await cluster.host(loser).tryCalico(...shortLine);
        assert.match(late.stderr, /because it has expired; create another one/);
        await works(cluster.host(loser));
      },
    );

    test(
      'join, while daemons of the joining host and of members are killed at random times',
      { skip },
      async () => {
        const [first, host] = [cluster.host(1), cluster.host(loser)];
        const line = await cluster.joinLine(first);
        const victims = [host, first, cluster.host(4), cluster.host(5)];
        const told: string[] = [];
        await quiet(host, async () => {
          let isJoined = false;
          while (!isJoined || told.length < 8) {
            const running = host.tryCalico(...line);
            const victim = victims[randomInt(victims.length)] ?? host;
            const ms = randomInt(2500);
            await sleep(ms);
            await victim.host.killCalico();
            await victim.startCalico();
            const { status, stderr } = await running;
            isJoined = status === 0;
            told.push(
              `${victim.name} after ${ms} ms: ${status} ${stderr.trimEnd().split('\n').at(-1)}`,
            );
            assert.ok(told.length < 40, told.join('\n'));
          }
          report('random', told);
          for (const one of victims) await works(one);
          await cluster.healthy(first);
        });
      },
    );

    test('all hosts of the cluster reach each other', { skip }, async () => {
      const hosts = [1, 4, 5, 6, 7].map((number) => cluster.host(number));
      await cluster.undisturbed(hosts, {}, () => cluster.allocate(...hosts));
    });
  },
);
