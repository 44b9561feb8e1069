import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startNameServer, type NameServer } from '../lab/name-server.ts';
import { engines } from '../lab/engine.ts';
import { startHost } from '../lab/host.ts';
import { NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

for (const engine of engines) {
  describe(
    `names, with the host on a resolver at 127.0.0.53, Docker ${engine}`,
    { timeout: 600_000 },
    () => {
      let lab: NetworkLab;
      const servers: NameServer[] = [];
      before(async () => {
        lab = new NetworkLab(await startHost({ engine, uplink: true }), undefined, {});
        const { machine } = lab.host;
        servers.push(
          // What systemd-resolved is, and the servers behind it, of which it writes a list for Docker.
          await startNameServer(machine.enterNetwork, '127.0.0.53', {
            'outside.test': '198.51.100.7',
          }),
          await startNameServer(
            ['nsenter', `--net=${machine.path('/run/netns/router')}`],
            '198.51.100.1',
            {
              'outside.test': '198.51.100.8',
              'printer.corp.test': '198.51.100.9',
            },
          ),
        );
        await lab.host.run([
          'sh',
          '-ec',
          `echo 'nameserver 127.0.0.53' >/etc/resolv.conf
        mkdir -p /run/systemd/resolve; echo 'nameserver 198.51.100.1' >/run/systemd/resolve/resolv.conf`,
        ]);
        await lab.host.startCalico();
        await lab.host.startDocker();
        await lab.network('web');
        await lab.server('app', '--net', 'web', '--network-alias', 'shop');
        await lab.client('inside', '--net', 'web');
      });
      after(async () => {
        for (const server of servers) await server[Symbol.asyncDispose]();
        await lab[Symbol.asyncDispose]();
      });

      /** The address that a container finds for a name; empty if none. */
      async function resolves(container: string, name: string): Promise<string> {
        const { stdout } = await lab.host.exec(
          words`docker exec ${container} timeout 8 ping -c 1 -W 1 ${name}`,
        );
        return /PING \S+ \(([0-9.]+)\)/.exec(stdout)?.[1] ?? '';
      }

      test('containers find each other by name and alias, and names outside', async () => {
        const address = await lab.address('app', 'web');
        assert.equal(await resolves('inside', 'app'), address);
        assert.equal(await resolves('inside', 'shop'), address);
        assert.equal(await resolves('inside', 'outside.test'), '198.51.100.7');
      });

      test('--dns and --dns-search are used', async () => {
        await lab.client('searcher', ...words`--net web --dns 198.51.100.1 --dns-search corp.test`);
        assert.equal(await resolves('searcher', 'printer'), '198.51.100.9');
        assert.equal(await resolves('searcher', 'app'), await lab.address('app', 'web'));
        assert.equal(await resolves('inside', 'printer'), '');
      });

      test('a Profile that denies all but one CIDR keeps names by one rule', async () => {
        const rule = (...words: readonly string[]) =>
          lab.calico('profile', 'web', 'rule', ...words);
        await rule('add', 'outbound', '--at', '1', 'allow', 'to', 'cidr', '203.0.113.0/24');
        await rule('remove', 'outbound', 'allow');
        assert.ok(await lab.pings('inside', '203.0.113.1'));
        assert.equal(
          await resolves('inside', 'app'),
          await lab.address('app', 'web'),
          'Docker answers itself',
        );
        assert.equal(await resolves('inside', 'outside.test'), '198.51.100.7', 'from the host');
        await lab.client('direct', '--net', 'web', '--dns', '198.51.100.1');
        assert.equal(await resolves('direct', 'outside.test'), '', 'from the container');
        assert.ok((await lab.dropped('direct', /outbound/)) > 0);
        await rule(
          'add',
          'outbound',
          'allow',
          'udp',
          'to',
          'cidr',
          '198.51.100.1/32',
          'ports',
          '53',
        );
        assert.equal(await resolves('direct', 'outside.test'), '198.51.100.8');
        await rule('add', 'outbound', 'allow');
      });

      test('an internal network finds its own names; outside ones on 20.10 only, by a server of the host itself', async () => {
        await lab.network('closed', '--internal');
        await lab.server('vault', '--net', 'closed');
        await lab.client('keeper', '--net', 'closed');
        assert.equal(await resolves('keeper', 'vault'), await lab.address('vault', 'closed'));
        const outside = await resolves('keeper', 'outside.test');
        assert.equal(outside, engine === '20.10' ? '198.51.100.7' : '', 'by a server of the host');
      });

      test('host.docker.internal reaches the host as its own rules say', async () => {
        await lab.client(
          'caller',
          ...words`--net web --add-host host.docker.internal:host-gateway`,
        );
        assert.equal(await resolves('caller', 'host.docker.internal'), '172.17.0.1');
        assert.ok(await lab.pings('caller', 'host.docker.internal'));
        await lab.host.run(['iptables', '-A', 'INPUT', '-p', 'icmp', '-j', 'DROP']);
        assert.equal(await lab.pings('caller', 'host.docker.internal'), false);
        await lab.host.stopCalico();
        await lab.host.startCalico({ CALICO_ENDPOINT_TO_HOST_ACTION: 'Accept' });
        assert.ok(await lab.eventually(() => lab.pings('caller', 'host.docker.internal')));
        await lab.host.run(['iptables', '-D', 'INPUT', '-p', 'icmp', '-j', 'DROP']);
        await lab.host.stopCalico();
        await lab.host.startCalico({ CALICO_ENDPOINT_TO_HOST_ACTION: 'Drop' });
        assert.ok(
          await lab.eventually(async () => !(await lab.pings('caller', 'host.docker.internal'))),
        );
      });
    },
  );
}
