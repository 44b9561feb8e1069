import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { configText } from '../../src/bird/config-text.ts';
import {
  configuration,
  inputsOf,
  peer,
  type Case,
} from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';
import { startRoutingMachine, stopBird } from '../lab/birds.ts';
import { unlessLong } from '../lab/long.ts';
import type { Machine } from '../lab/machine.ts';
import { becomesText } from '../lab/poll.ts';

/** Node `a` of the cases, 192.0.2.1, and a rack switch with FRR, 192.0.2.254. */
describe('BIRD with the configuration of a BGPPeer, and FRR', { timeout: 600_000 }, () => {
  let machine: Machine;
  before(async () => {
    machine = await startRoutingMachine();
    await machine.run(['sh', '-e'], { input: network });
  });
  after(() => machine[Symbol.asyncDispose]());

  const network = `
    ip netns add rack
    ip link add e0 type veth peer name e0 netns rack
    ip address add 192.0.2.1/24 dev e0
    ip link set e0 up
    ip -n rack address add 192.0.2.254/24 dev e0
    ip -n rack link set e0 up
    ip -n rack link set lo up
    mkdir -p /run/calico
    install -d -o frr -g frr /run/frr
  `;

  /** Starts FRR in the rack switch with AS number 65001; it announces 203.0.113.0/24. */
  async function startFrr(neighbour: readonly string[]): Promise<void> {
    const files = {
      zebra: '',
      staticd: 'ip route 203.0.113.0/24 blackhole\n',
      bfdd: '',
      bgpd: [
        'router bgp 65001',
        ' bgp router-id 192.0.2.254',
        ' no bgp ebgp-requires-policy',
        ' neighbor 192.0.2.1 remote-as 64512',
        ...neighbour.map((line) => ` neighbor 192.0.2.1 ${line}`),
        ' address-family ipv4 unicast',
        '  network 203.0.113.0/24',
        ' exit-address-family',
        '',
      ].join('\n'),
    };
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(machine.path(`/tmp/${name}.conf`), text, { mode: 0o644 });
      const argv = [`/usr/lib/frr/${name}`, '-d', '-f', `/tmp/${name}.conf`];
      await machine.run(['ip', 'netns', 'exec', 'rack', ...argv]);
    }
  }

  async function stopFrr(signal: 'TERM' | 'KILL'): Promise<void> {
    const daemons = ['bgpd', 'bfdd', 'staticd', 'zebra'];
    for (const name of daemons)
      await machine.exec(['sh', '-c', `kill -${signal} $(cat /run/frr/${name}.pid)`]);
    await machine.run(['sh', '-c', 'rm -f /run/frr/*']);
  }

  async function startBird(given: Case): Promise<void> {
    const model = bgpModel(
      inputsOf({
        configurations: [configuration('default', { nodeToNodeMeshEnabled: false })],
        ...given,
      }),
    );
    assert.deepEqual(model.problems, []);
    const text = configText(model, {
      logFile: '/run/calico/bird.log',
      foreignProtocols: [80],
      families: [4, 6],
      programsKernel: true,
    });
    writeFileSync(machine.path('/run/calico/bird.conf'), text);
    const files = ['-s', '/run/calico/bird.ctl', '-P', '/run/calico/bird.pid'];
    await machine.run(['bird', '-c', '/run/calico/bird.conf', ...files]);
  }

  const ask = (...command: readonly string[]) =>
    machine.run(['birdc', '-s', '/run/calico/bird.ctl', ...command]);
  /** Its routes stay in the kernel. */
  async function stopOwnBird(): Promise<void> {
    await stopBird(machine, '/run/calico/bird');
    await machine.run(['ip', 'route', 'flush', 'proto', 'bird']);
  }
  const external = () => machine.run(['ip', 'route', 'show', '203.0.113.0/24']);

  const eventually = becomesText;

  const password = { secretKeyRef: { name: 'bgp', key: 'rack' } };
  const passwords = { 'bgp/rack': 'of-the-rack' };
  const rack = { peerIP: '192.0.2.254', asNumber: 65_001 };
  const bfd = { 'docker.projectcalico.org/bfd': 'on' };
  // FRR's way with a neighbour that has TTL security and is in no peer group.
  const severalHops = { ...bfd, 'docker.projectcalico.org/bfd-hops': 'several' };
  const fields = [
    { title: 'BFD', spec: rack, annotations: bfd, neighbour: ['bfd'], skip: unlessLong() },
    {
      title: 'a password, TTL security and BFD',
      spec: { ...rack, password, ttlSecurity: 1 },
      annotations: severalHops,
      neighbour: ['bfd', 'password of-the-rack', 'ttl-security hops 1'],
      skip: false,
    },
  ] as const;

  for (const { title, spec, annotations, neighbour, skip } of fields) {
    test(
      `${title}: routes are exchanged, and a switch that dies is noticed`,
      { skip },
      async () => {
        await startFrr(neighbour);
        await startBird({ peers: [peer('rack', spec, annotations)], passwords });
        await eventually(external, /via 192\.0\.2\.254 dev e0 proto bird metric 1024/);
        const vtysh = ['ip', 'netns', 'exec', 'rack', 'vtysh', '-c', 'show bgp ipv4'];
        await eventually(() => machine.run(vtysh), /10\.65\.1\.0\/26 +192\.0\.2\.1 /);
        await eventually(() => ask('show', 'bfd', 'sessions'), /192\.0\.2\.254 .* Up /);
        // Its TCP connection would be noticed; the cable is silent.
        await machine.run(['ip', '-n', 'rack', 'link', 'set', 'e0', 'down']);
        // The hold time is 240 s.
        await eventually(external, /^$/);
        await machine.run(['ip', '-n', 'rack', 'link', 'set', 'e0', 'up']);
        await eventually(external, /proto bird/);
        await stopOwnBird();
        await stopFrr('TERM');
      },
    );
  }

  test('with another password there is no session', async () => {
    await startFrr(['password another', 'timers connect 1']);
    await startBird({ peers: [peer('rack', { ...rack, password })], passwords });
    // Two attempts of each side.
    await eventually(
      () => machine.run(['sh', '-c', 'nstat -az TcpExtTCPMD5Failure | tail -1']),
      /TCPMD5Failure +[2-9]/,
    );
    assert.match(await ask('show', 'protocols'), /Global_192_0_2_254 .*(Connect|Active)/);
    assert.equal(await external(), '');
    await stopOwnBird();
    await stopFrr('KILL');
  });
});
