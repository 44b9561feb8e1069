import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { block, configuration, node, peer, pool } from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { makeBirds, startRoutingMachine, type BirdNode } from '../lab/birds.ts';
import type { Machine } from '../lab/machine.ts';
import { fenced } from '../lab/page.ts';
import { becomesText } from '../lab/poll.ts';

const external = '203.0.113.0/24';

/** GoBGP as docs/bgp-fabric.md has it, at 198.18.1.5, reflector of two nodes with a container each. It forwards nothing itself. */
describe('nodes with GoBGP as their route reflector', { timeout: 300_000 }, () => {
  let machine: Machine;
  let birds: readonly BirdNode[];
  const inside = (namespace: string, command: string) =>
    machine.run(['ip', 'netns', 'exec', namespace, 'sh', '-ec', command]);

  before(async () => {
    machine = await startRoutingMachine();
    birds = await makeBirds(machine, {
      nodes: [
        node('a', { ipv4Address: '198.18.1.11/24' }),
        node('b', { ipv4Address: '198.18.1.12/24' }),
      ],
      configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
      peers: [
        peer(
          'reflector',
          {
            peerIP: '198.18.1.5',
            asNumber: 64_512,
            password: { secretKeyRef: { name: 'bgp', key: 'reflectors' } },
          },
          { 'docker.projectcalico.org/max-prefixes': '3' },
        ),
      ],
      pools: [pool('main', '10.64.0.0/16')],
      blocks: [block('10.64.1.0/26', 'a'), block('10.64.2.0/26', 'b')],
      passwords: { 'bgp/reflectors': 'of-the-reflectors' },
    });
    await machine.run(['sh', '-e'], {
      input: `
        ip netns add reflector
        ip link add v-reflector type veth peer name eth0 netns reflector
        ip link set v-reflector master switch up
        ip -n reflector address add 198.18.1.5/24 dev eth0
        ip -n reflector address add 203.0.113.1/32 dev lo
        ip -n reflector link set eth0 up
        ip -n reflector link set lo up
        ip -n a address add 10.64.1.1/32 dev eth0
        ip -n b address add 10.64.2.1/32 dev eth0
      `,
    });
    for (const bird of birds) await bird.start();
  });
  after(() => machine[Symbol.asyncDispose]());

  test('with a password: blocks are reflected, a route of its own is used, and packets pass', async () => {
    writeFileSync(machine.path('/tmp/gobgpd.toml'), fenced('docs/bgp-fabric.md', 'gobgp'));
    machine.spawn(['ip', 'netns', 'exec', 'reflector', 'gobgpd', '-f', '/tmp/gobgpd.toml']);
    const gobgp = (command: string) => inside('reflector', `gobgp ${command}`);
    await becomesText(
      () => gobgp('neighbor || true'),
      /198\.18\.1\.11 .*Establ[^]*198\.18\.1\.12 .*Establ/,
    );
    await gobgp(`global rib add ${external} nexthop 198.18.1.5`);
    const learned = await becomesText(
      () => gobgp('global rib'),
      /10\.64\.1\.0\/26 +198\.18\.1\.11[^]*10\.64\.2\.0\/26 +198\.18\.1\.12/,
    );
    assert.deepEqual(
      [...learned.matchAll(/^\S+ +(\d\S+\/\d+) /gm)].map(([, net = '']) => net).toSorted(),
      ['10.64.1.0/26', '10.64.2.0/26', external],
      'only blocks are announced',
    );
    for (const [own, other, via] of [
      ['a', '10.64.2.0/26', '198.18.1.12'],
      ['b', '10.64.1.0/26', '198.18.1.11'],
    ] as const) {
      const route = `^${other} via ${via} dev eth0 proto bird metric 1024`;
      await becomesText(() => inside(own, 'ip route'), new RegExp(route, 'm'));
      await becomesText(() => inside(own, 'ip route'), /^203\.0\.113\.0\/24 via 198\.18\.1\.5 /m);
    }
    await inside('a', 'ping -c 3 -i 0.2 -I 10.64.1.1 10.64.2.1');
    await inside('a', 'ping -c 3 -i 0.2 203.0.113.1');
    const isAtLimit = async () => {
      const [state] = (await birds[0]?.states(AbortSignal.timeout(60_000))) ?? [];
      return String(state?.isAtLimit);
    };
    assert.equal(await isAtLimit(), 'false');
    // A limit of three.
    await gobgp('global rib add 203.0.113.128/25 nexthop 198.18.1.5');
    await gobgp('global rib add 203.0.113.192/26 nexthop 198.18.1.5');
    await becomesText(isAtLimit, /true/);
    const used = await inside('a', 'ip route show proto bird');
    assert.equal(used.trim().split('\n').length, 3, used);
    await gobgp(`global rib del ${external}`);
    await becomesText(() => inside('a', `ip route show ${external}`), /^$/);
  });

  test('without the password there is no session', async () => {
    await inside('reflector', 'gobgp neighbor 198.18.1.11 shutdown');
    await becomesText(() => inside('a', 'ip route show proto bird'), /^$/);
    const failures = () => inside('a', 'nstat -asz TcpExtTCPMD5NotFound | tail -1');
    await becomesText(async () => {
      await inside('reflector', 'timeout 1 bash -c "exec 3<>/dev/tcp/198.18.1.11/179" || true');
      return failures();
    }, /TCPMD5NotFound +[1-9]/);
  });
});
