import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { engines, type Engine } from '../lab/engine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { unlessLong } from '../lab/long.ts';
import { words } from '../lab/words.ts';

const option = 'org.projectcalico.addresses';

for (const engine of engines) {
  const skip = engine === '20.10' && unlessLong();
  describe(`addresses beside Docker's, ${engine}`, { timeout: 600_000, skip }, () => suite(engine));
}

/** Addresses that a container asks for: who has them, who reaches them, and what may carry them. */
function suite(engine: Engine): void {
  const isNew = engine !== '20.10';
  let lab: NetworkLab;
  before(async () => {
    const backend = isNew ? 'nft' : 'legacy';
    lab = await startLab({ engine, backend, datastore: isNew ? 'etcd' : 'sqlite' });
    await lab.network('web', ...words`--ipv6 --subnet 10.95.0.0/24 --subnet fd00:95::/64`);
    await lab.network('other');
    await lab.client('inside', '--net', 'web');
    await lab.client('outside', '--net', 'other');
  });
  after(async () => lab[Symbol.asyncDispose]());

  const connection = (network: string, addresses: string) =>
    `name=${network},driver-opt=${option}=${addresses}`;
  /** The container takes an address, as keepalived or an administrator would. */
  const put = (container: string, ...addresses: readonly string[]) =>
    Promise.all(
      addresses.map((address) =>
        lab.docker(...words`exec ${container} ip address add ${address} dev eth0`),
      ),
    );
  const sends = async (from: string, source: string, to: string) => {
    const ping = words`docker exec ${from} ping -c 1 -W 1 -I ${source} ${to}`;
    return (await lab.host.exec(ping)).status === 0;
  };
  const addressesOf = async (container: string) =>
    (await lab.status()).endpoints.find((one) => one.container === container)?.addresses ?? [];
  const isClean = async () =>
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);

  test('they are routed to the container, are sources of its packets, and status shows them', async () => {
    const net = connection('web', '10.95.0.200 fd00:95::200');
    await lab.server('gateway', '--network', net, ...words`--cap-add NET_ADMIN --restart always`);
    assert.deepEqual((await addressesOf('gateway')).slice(-2), [
      '10.95.0.200/32',
      'fd00:95::200/128',
    ]);
    assert.match(await lab.calico('get', 'wep', 'gateway'), /10\.95\.0\.200\/32/);
    assert.equal(await lab.reaches('inside', '10.95.0.200'), false);
    await put('gateway', '10.95.0.200/32', 'fd00:95::200/128');
    for (const address of ['10.95.0.200', 'fd00:95::200'])
      assert.ok(await lab.eventually(() => lab.reaches('inside', address)), address);
    const inside = await lab.address('inside', 'web');
    assert.ok(await lab.eventually(() => sends('gateway', '10.95.0.200', inside)));
    await put('gateway', '10.95.0.201/32');
    assert.equal(await sends('gateway', '10.95.0.201', inside), false);
    assert.ok((await lab.dropped('gateway', /spoofed source/)) > 0);
    await isClean();
  });

  test('policy by tag sees them, to them and from them', async () => {
    assert.equal(await lab.reaches('outside', '10.95.0.200'), false);
    await lab.calico(...words`profile web rule add inbound allow from tag other`);
    assert.ok(await lab.eventually(() => lab.reaches('outside', '10.95.0.200')));
    const outside = await lab.address('outside', 'other');
    assert.equal(await sends('gateway', '10.95.0.200', outside), false);
    await lab.calico(...words`profile other rule add inbound allow from tag web`);
    assert.ok(await lab.eventually(() => sends('gateway', '10.95.0.200', outside)));
  });

  test('nobody else gets them, and the refusal names the container that has them', async () => {
    const taken = /address 10\.95\.0\.200 is in use by container gateway/;
    const run = (...options: readonly string[]) =>
      lab.refused('run', '--rm', ...options, 'calico-test', 'true');
    assert.match(await run(...words`--net web --ip 10.95.0.200`), taken);
    assert.match(await run('--network', connection('web', '10.95.0.200')), taken);
    assert.match(await run(...words`--net web --label ${option}=10.95.0.200`), taken);
    const unknown = await run('--network', connection('web', '10.95.0.400'));
    assert.match(unknown, /endpoint option .*"10\.95\.0\.400" is not an IP address/);
    assert.match(await run('--network', connection('web', '192.0.2.1')), /not in any IP pool/);
    assert.match(await run('--network', connection('other', 'fd00:95::7')), /--ipv6/);
    const label = await run(...words`--net web --label ${option}=10.95.0`);
    assert.match(label, /label "org\.projectcalico\.addresses=10\.95\.0": .*not an IP address/);
    await lab.docker('network', 'create', '--driver', 'calico', 'plain');
    const plain = await run('--network', connection('plain', '10.95.0.7'));
    assert.match(plain, /--ipam-driver calico-ipam/);
    await isClean();
  });

  test('a label of the container asks for them as well', async () => {
    await lab.client('labelled', ...words`--net web --label ${option}=10.95.0.210`);
    assert.ok((await addressesOf('labelled')).includes('10.95.0.210/32'));
    // It names no network: the first that the container joined has it.
    await lab.docker(...words`network connect other labelled`);
    const all = (await lab.status()).endpoints.filter((one) => one.container === 'labelled');
    assert.equal(all.length, 2);
    assert.equal(all.filter(({ addresses }) => addresses.includes('10.95.0.210/32')).length, 1);
    await lab.docker('rm', '-f', 'labelled');
  });

  test('a prefix behind a container is routed to it, its policy applies, and no other network may overlap it', async () => {
    const behind = (prefix: string, network = 'web') =>
      `name=${network},driver-opt=org.projectcalico.prefixes=${prefix}`;
    const [inside, outside] = [
      await lab.address('inside', 'web'),
      await lab.address('outside', 'other'),
    ];
    await lab.server(
      'vpn',
      '--network',
      behind('10.66.0.0/24 fd00:66::/64'),
      ...words`--cap-add NET_ADMIN`,
    );
    // Instead of hosts at the far end of a tunnel.
    for (const [address, device] of [
      ['10.66.0.1/24', 'lo'],
      ['fd00:66::1/64', 'lo'],
      ['10.67.0.1/24', 'lo'],
    ] as const)
      await lab.docker(...words`exec vpn ip address add ${address} dev ${device}`);
    for (const address of ['10.66.0.1', 'fd00:66::1'])
      assert.ok(await lab.eventually(() => lab.reaches('inside', address)), address);
    assert.ok(await lab.eventually(() => sends('vpn', '10.66.0.1', inside)));
    assert.equal(await sends('vpn', '10.67.0.1', inside), false);
    // Each of the two networks allows the tag of the other, but not that of a third network.
    assert.ok(await lab.eventually(() => sends('vpn', '10.66.0.1', outside)));
    await lab.network('third');
    await lab.client('stranger', '--net', 'third');
    assert.equal(await lab.reaches('stranger', '10.66.0.1'), false);
    assert.equal(await sends('vpn', '10.66.0.1', await lab.address('stranger', 'third')), false);
    const run = (prefix: string) =>
      lab.refused('run', '--rm', '--network', behind(prefix), 'calico-test', 'true');
    assert.match(
      await run('10.66.0.128/25'),
      /overlaps prefix 10\.66\.0\.0\/24 behind container vpn/,
    );
    assert.match(await run('10.95.0.0/28'), /overlaps IP pool .*10\.95\.0\.0\/24/);
    assert.match(await run('203.0.113.0/28'), /overlaps the network of interface uplink/);
    assert.match(await run('0.0.0.0/0'), /0\.0\.0\.0\/0/);
    assert.match(await run('10.66.1.7/24'), /endpoint option .*10\.66\.1\.0\/24/);
    assert.match(
      await lab.refused(
        'run',
        '--rm',
        '--network',
        behind('10.69.0.0/24', 'plain'),
        'calico-test',
        'true',
      ),
      /prefix 10\.69\.0\.0\/24 cannot be added.*--ipam-driver calico-ipam/,
    );
    const subnet = words`network create -d calico --ipam-driver calico-ipam --subnet 10.66.0.0/25 x`;
    assert.match(await lab.refused(...subnet), /prefix behind container vpn/);
    await lab.host.killCalico();
    await lab.host.startCalico(lab.environment);
    await lab.host.run(words`ip route del 10.66.0.0/24`);
    assert.ok(await lab.eventually(() => lab.reaches('inside', '10.66.0.1')));
    assert.match(await lab.calico('get', 'wep', 'vpn', '-o', 'yaml'), /- 10\.66\.0\.0\/24/);
    await lab.docker('rm', '-f', 'vpn', 'stranger');
    assert.ok(
      await lab.eventually(
        async () => (await lab.host.run(words`ip route show 10.66.0.0/24`)) === '',
      ),
    );
    await lab.docker('network', 'rm', 'third');
  });

  test('they move with docker network disconnect and connect', async () => {
    await lab.network('virtual', ...words`--subnet 10.96.0.0/24`);
    await lab.server('standby', ...words`--net web --cap-add NET_ADMIN`);
    const connect = (container: string) =>
      lab.docker(...words`network connect --driver-opt ${option}=10.96.0.100 virtual ${container}`);
    for (const container of ['gateway', 'standby']) {
      await connect(container);
      await lab.docker(...words`exec ${container} ip address add 10.96.0.100/32 dev eth1`);
      await lab.client('asks', '--net', 'virtual');
      assert.ok(await lab.eventually(() => lab.reaches('asks', '10.96.0.100')), container);
      await lab.docker('rm', '-f', 'asks');
      await lab.docker('network', 'disconnect', 'virtual', container);
    }
    await lab.docker('rm', '-f', 'standby');
    await lab.docker('network', 'rm', 'virtual');
    await isClean();
  });

  test('they stay when the daemon or dockerd is killed, and go with the container', async () => {
    const behind = 'name=web,driver-opt=org.projectcalico.prefixes=10.68.0.0/24';
    await lab.server('vpn', '--network', behind, ...words`--restart always`);
    await lab.host.killCalico();
    await lab.host.startCalico(lab.environment);
    assert.ok(await lab.eventually(() => lab.reaches('inside', '10.95.0.200')));
    await lab.host.killDocker();
    await lab.host.startDocker();
    const isBack = async () => (await addressesOf('gateway')).includes('10.95.0.200/32');
    assert.ok(await lab.eventually(isBack), lab.host.calicoLog().slice(-3000));
    await put('gateway', '10.95.0.200/32');
    await lab.docker('start', 'inside');
    assert.ok(await lab.eventually(() => lab.reaches('inside', '10.95.0.200')));
    const isRouted = async () => (await lab.host.run(words`ip route show 10.68.0.0/24`)) !== '';
    assert.ok(await lab.eventually(isRouted), lab.host.calicoLog().slice(-3000));
    await lab.docker('rm', '-f', 'gateway', 'vpn');
    assert.ok(await lab.eventually(async () => !(await isRouted())));
    assert.doesNotMatch(await lab.calico('get', 'ipreservation'), /docker-prefixes/);
    await lab.client('next', ...words`--net web --ip 10.95.0.200`);
    assert.equal(await lab.address('next', 'web'), '10.95.0.200');
    await isClean();
  });
}
