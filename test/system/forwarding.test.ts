import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startHost } from '../lab/host.ts';
import { NetworkLab, type LabKind } from '../lab/network-lab.ts';
import { addSecondInterface, routesBetweenInterfaces } from '../lab/second-interface.ts';
import { words } from '../lab/words.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'nft', datastore: 'sqlite', furnished: true },
  { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
];
const forwarding4 = '/proc/sys/net/ipv4/ip_forward';
const forwarding6 = '/proc/sys/net/ipv6/conf/all/forwarding';
const advertisements = '/proc/sys/net/ipv6/conf/uplink/accept_ra';

for (const kind of kinds) {
  describe(`a host with two interfaces, Docker ${kind.engine}`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = new NetworkLab(await startHost({ ...kind, uplink: true }), undefined, {});
      await addSecondInterface(lab.host.machine);
      if (kind.furnished === true) await advertiseRouter();
      await lab.host.run(['sh', '-c', `echo 0 >${forwarding4}; echo 0 >${forwarding6}`]);
    });
    after(async () => lab[Symbol.asyncDispose]());

    const setting = (file: string) => lab.host.run(['cat', file]);
    const routes = (family: 4 | 6) => routesBetweenInterfaces(lab.host.machine, family);
    const advertisedRoute = () =>
      lab.host.run(['ip', '-6', 'route', 'show', 'default', 'proto', 'ra']);

    /** The router of the uplink is a default router for IPv6 by its advertisements, and by nothing else. */
    async function advertiseRouter(): Promise<void> {
      const configuration = `interface downlink {
        AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 60;
        prefix 2001:db8:113::/64 { AdvAutonomous off; };
      };`;
      await lab.host.run(['sh', '-c', 'cat >/run/radvd.conf'], { input: configuration });
      await lab.host.run(['ip', '-6', 'route', 'del', 'default']);
      lab.host.spawn([
        'ip',
        'netns',
        'exec',
        'router',
        'sh',
        '-c',
        'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; exec radvd -n -C /run/radvd.conf -p /run/radvd.pid',
      ]);
      assert.ok(await lab.eventually(async () => (await advertisedRoute()) !== ''));
    }

    test('switches forwarding on for containers and is no router between its interfaces', async () => {
      await lab.host.startCalico();
      assert.equal(await setting(forwarding4), '0', 'before Docker there is nothing to forward');
      await lab.host.startDocker();
      await lab.network('web', '--ipv6');
      await lab.server('app', '--net', 'web');
      await lab.client('inside', '--net', 'web');
      assert.equal(await setting(forwarding4), '1');
      assert.equal(await setting(forwarding6), '1');
      assert.ok(await lab.reaches('inside', await lab.address('app', 'web')));
      assert.ok(await lab.reaches('inside', await lab.address6('app', 'web')));
      assert.equal(await routes(4), false);
      assert.equal(await routes(6), false);
      await lab.host.run(['iptables', '-P', 'FORWARD', 'ACCEPT']);
      assert.ok(await routes(4), 'Docker had set this policy, as it found forwarding off');
      await lab.host.run(['iptables', '-P', 'FORWARD', 'DROP']);
      const guarded = '-m comment --comment "cali:.*" -j cali-fwd-guard';
      const rules = await lab.host.run(['ip6tables', '-S', 'FORWARD']);
      assert.match(rules, new RegExp(`^-A FORWARD ${guarded}$`, 'm'));
    });

    if (kind.furnished === true) {
      test('keeps the default route that a router advertises', async () => {
        assert.equal(await setting(advertisements), '2');
        assert.match(await advertisedRoute(), /via fe80/);
        await lab.host.run(['ping', '-6', '-c', '1', '-W', '1', '2001:db8:100::1']);
        // The next advertisement renews it; one that is believed no more runs out.
        await lab.host.run(['ip', '-6', 'route', 'del', 'default', 'proto', 'ra']);
        assert.ok(await lab.eventually(async () => (await advertisedRoute()) !== ''));
      });

      test('and does so after the interface was set up again', async () => {
        const script = `echo 1 >${advertisements}; ip link set uplink down; ip link set uplink up`;
        await lab.host.run(['sh', '-c', script]);
        assert.ok(await lab.eventually(async () => (await setting(advertisements)) === '2'));
        assert.ok(await lab.eventually(async () => (await advertisedRoute()) !== ''));
        await lab.host.run([
          'sh',
          '-c',
          'ip route add default via 203.0.113.1; ip -6 address add 2001:db8:113::2/64 dev uplink nodad; true',
        ]);
      });
    }

    test('bridge containers with IPv6 are not hurt', async () => {
      await lab.docker('network', 'create', '--ipv6', '--subnet', '2001:db8:77::/64', 'six');
      await lab.server('bridged', '--net', 'six');
      await lab.host.run(words`ip -n router -6 route add 2001:db8:77::/64 via 2001:db8:113::2`);
      const probe = async () =>
        (await lab.host.exec(words`docker exec bridged ping -6 -c 1 -W 1 2001:db8:100::1`))
          .status === 0;
      assert.ok(await lab.eventually(probe));
    });

    test('a restart of the daemon keeps the guard', async () => {
      await lab.host.killCalico();
      await lab.host.run(['ip6tables', '-F', 'FORWARD']);
      assert.ok(await lab.eventually(() => routes(6)), 'without it the host would be a router');
      await lab.host.startCalico();
      assert.ok(await lab.eventually(async () => !(await routes(6))));
    });

    test('clean puts back what was there before', async () => {
      await lab.clear();
      await lab.host.stopCalico();
      await lab.calico('clean');
      assert.equal(await setting(forwarding6), '0');
      assert.equal(await setting(advertisements), '1');
      assert.doesNotMatch(await lab.host.run(['ip6tables-save']), /cali/);
    });

    test('a host that was a router before stays one', async () => {
      await lab.host.run(['sh', '-c', `echo 1 >${forwarding6}`]);
      assert.ok(await lab.eventually(() => routes(6)));
      await lab.host.startCalico();
      await lab.network('web', '--ipv6');
      await lab.client('inside', '--net', 'web');
      assert.ok(await routes(6));
    });
  });
}
