import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { statusReport } from '../../src/agent/status/status.ts';
import {
  indexLocalEndpoints,
  type LocalEndpoints,
} from '../../src/driver/endpoints/local-endpoints.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { countersPerAddress } from '../../src/render/iptables/drop-chains.ts';
import type { StatusReport } from '../../src/telemetry/status-report.ts';
import {
  endpoint as endpointOf,
  here,
  KernelAgent,
  profile,
  type EndpointFacts,
} from '../lab/kernel-agent.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
const inside = `${namespace.name}-in`;
after(() => {
  execFileSync('ip', ['netns', 'del', inside]);
  namespace[Symbol.dispose]();
});

const sh = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' });

const packetSocket = { family: 17, raw: 3, ip: 0x0800 };
/** Ethernet, IPv4 from 10.99.0.1 to 10.65.0.1 with its checksum, UDP. Source: packet(7), RFC 791. */
const falsePacket = Buffer.from(
  'eeeeeeeeeeeeca00000000010800' +
    '4500001c000000004011662c' +
    '0a6300010a410001' +
    '0001000200080000',
  'hex',
);

/** More containers than the kernel keeps counters of one address send with the same false source address. */
describe('counters of what is dropped', { timeout: 600_000 }, () => {
  const many = 80;
  const sourceSet = 'cali40d:source';
  let lab: KernelAgent;
  let local: LocalEndpoints;
  const containers: EndpointFacts[] = [];
  before(async () => {
    execFileSync('ip', ['netns', 'add', inside]);
    lab = await KernelAgent.start('nft');
    local = indexLocalEndpoints(lab.store.mirror, here);
    await lab.write((draft) => draft.put('Profile', 'web', profile('web', [])));
    for (let number = 1; number <= many; number++) await add(number);
  });
  after(async () => lab[Symbol.asyncDispose]());

  /** A container with an address of its own, and one that all have. */
  async function add(number: number): Promise<void> {
    const facts = {
      name: `c${number}`,
      networks: [`10.65.0.${number}/32`],
      profiles: ['web'],
      interfaceName: `cali${String(number).padStart(11, '0')}`,
    };
    containers[number] = facts;
    await lab.join(facts);
    const peer = `p${facts.interfaceName.slice(4)}`;
    sh(`ip link set ${peer} netns ${inside}; ip -n ${inside} link set ${peer} up`);
  }

  /** Each of the containers sends so many packets with the same source address, which is nobody's. */
  async function send(numbers: readonly number[], packets: number): Promise<void> {
    const { libc } = lab.sockets;
    inNetworkNamespace(libc, `/run/netns/${inside}`, () => {
      const fd = libc.socket(packetSocket.family, packetSocket.raw, 0);
      for (const number of numbers) {
        const name = `p${containers[number]?.interfaceName.slice(4)}`;
        const address = Buffer.alloc(20);
        address.writeUInt16LE(packetSocket.family, 0);
        address.writeUInt16BE(packetSocket.ip, 2);
        address.writeInt32LE(libc.if_nametoindex(name), 4);
        assert.equal(libc.bind(fd, address, address.length), 0, name);
        for (let sent = 0; sent < packets; sent++) {
          assert.equal(libc.send(fd, falsePacket, falsePacket.length, 0), falsePacket.length, name);
        }
      }
      libc.close(fd);
    });
  }

  const report = (): StatusReport =>
    statusReport({
      version: '0',
      node: here,
      startedAt: new Date(),
      mirror: lab.store.mirror,
      agent: lab.agent,
      local,
      firewall: { backend: 'nft', why: 'the test says' },
      families: [4, 6],
      sockets: ['calico.sock'],
      hostProblems: [],
      connected: () => [],
      dockerPools: () => [],
      moreChecks: [],
    });
  const counted = () => {
    const { drops } = report();
    const sum = (rule: RegExp) =>
      drops.filter((one) => rule.test(one.rule)).reduce((total, { packets }) => total + packets, 0);
    return { apart: sum(/: spoofed source/), together: sum(/other addresses/) };
  };
  const listed = (): number =>
    sh(`ipset list ${sourceSet}`)
      .split('\n')
      .filter((line) => line.includes('/32,') || line.includes(',cali')).length;
  const all = Array.from({ length: many }, (_, index) => index + 1);

  async function until(isSo: () => boolean, what: () => string): Promise<void> {
    for (let look = 0; look < 200 && !isSo(); look++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    assert.ok(isSo(), what());
  }

  test('each packet is counted; of one address there are no more counters than can be listed', async () => {
    await send(all, 3);
    await until(
      () => listed() === countersPerAddress,
      () => `${listed()} counters`,
    );
    await send(all, 5);
    const { apart, together } = counted();
    assert.equal(apart + together, many * 8);
    assert.ok(apart >= countersPerAddress * 8, `${apart} of ${countersPerAddress} containers`);
    assert.ok(together > 0);
    assert.deepEqual(
      report().checks.filter(({ name }) => name === 'drop counters'),
      [],
    );
  });

  test('a counter goes with its container, and no other is changed', async () => {
    const before = new Map(
      report().drops.map((one) => [`${one.container} ${one.rule}`, one.packets]),
    );
    const withCounter = all.filter((number) =>
      sh(`ipset list ${sourceSet}`).includes(`${containers[number]?.interfaceName} `),
    );
    const leaving = withCounter.slice(0, 4);
    for (const number of leaving) await lab.leave(containers[number] ?? assert.fail());
    await until(
      () => listed() === countersPerAddress - leaving.length,
      () => `${listed()} counters`,
    );
    for (const { container, rule, packets } of report().drops) {
      assert.equal(packets, before.get(`${container} ${rule}`), `${container}: ${rule}`);
    }
    // There is room again, for others.
    const waiting = all.filter((number) => !withCounter.includes(number)).slice(0, 2);
    await until(
      () => sh('ipset list cali40d:crowded -t').includes('entries: 0'),
      () => 'still crowded',
    );
    await send(waiting, 7);
    await until(
      () =>
        waiting.every((number) =>
          sh(`ipset list ${sourceSet}`).includes(`${containers[number]?.interfaceName} packets 7 `),
        ),
      () => sh(`ipset list ${sourceSet}`),
    );
  });

  test('a hundred containers one after the other with one address: nothing is left of them', async () => {
    for (let number = 101; number <= 200; number++) {
      const facts = {
        name: `s${number}`,
        networks: ['10.65.1.1/32'],
        profiles: ['web'],
        interfaceName: `cali${String(number).padStart(11, '0')}`,
      };
      containers[number] = facts;
      await lab.join(facts);
      const peer = `p${facts.interfaceName.slice(4)}`;
      sh(`ip link set ${peer} netns ${inside}; ip -n ${inside} link set ${peer} up`);
      await send([number], 1);
      await lab.leave(facts);
    }
    await until(
      () => all.length > 0 && !/cali0000000(01\d\d|0200) /.test(sh(`ipset list ${sourceSet}`)),
      () => sh(`ipset list ${sourceSet}`),
    );
  });

  test('a 65th interface of one address gets no policy, is named, and all others go on', async () => {
    const crowd = Array.from({ length: 65 }, (_, index) => ({
      name: `same${index}`,
      networks: ['10.65.2.1/32'],
      profiles: ['web'],
      interfaceName: `cali${String(500 + index).padStart(11, '0')}`,
    }));
    const revision = await lab.write((draft) => {
      for (const facts of crowd)
        draft.put('WorkloadEndpoint', `libnetwork/${facts.name}`, endpointOf(facts));
    });
    await lab.settled();
    assert.ok(revision > 0n);
    const { failures } = lab.agent.health;
    assert.deepEqual(
      [...new Set(failures.map(({ what }) => what.replace(/^member (\S+),\S+ of .*cali40/, '$1 ')))]
        .toSorted()
        .map((what) => what.split(':')[0]),
      ['10.65.2.1/32 b', '10.65.2.1/32 g', '10.65.2.1/32 workloads'],
    );
    assert.match(
      report()
        .checks.filter(({ ok }) => !ok)
        .map(({ detail }) => detail)
        .join('\n'),
      /member 10\.65\.2\.1\/32,cali\S+ of the address set cali40workloads .*HASH_FULL/,
    );
    await add(90);
    await lab.write((draft) => {
      for (const { name } of crowd) draft.remove('WorkloadEndpoint', `libnetwork/${name}`);
    });
    await lab.settled();
    assert.deepEqual(lab.agent.health.failures, []);
  });
});
