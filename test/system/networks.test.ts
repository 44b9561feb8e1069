import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { unlessLong } from '../lab/long.ts';
import {
  fewLabKinds,
  kindName,
  labKinds,
  startLab,
  type LabKind,
  type NetworkLab,
} from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

for (const kind of unlessLong() === false ? labKinds : fewLabKinds)
  describe(kindName(kind), { timeout: 600_000 }, () => networksSuite(kind));

/** What addresses networks and containers get, and who then reaches whom. */
function networksSuite(kind: LabKind): void {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(kind);
  });
  after(async () => lab[Symbol.asyncDispose]());

  const cleanly = (name: string, run: () => Promise<void>): void => {
    test(name, async () => {
      try {
        await run();
      } finally {
        await lab.clear();
      }
      assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
    });
  };

  cleanly('--subnet, --gateway, --ip-range, --aux-address and --ip are kept', async () => {
    await lab.network(
      'ranged',
      ...words`--subnet 10.99.0.0/24 --gateway 10.99.0.1 --ip-range 10.99.0.128/25 --aux-address printer=10.99.0.130`,
    );
    await lab.server('app', '--net', 'ranged', '--ip', '10.99.0.50');
    assert.equal(await lab.address('app', 'ranged'), '10.99.0.50');
    const taken = new Set<string>();
    for (const name of ['one', 'two', 'three']) {
      await lab.client(name, '--net', 'ranged');
      taken.add(await lab.address(name, 'ranged'));
    }
    assert.equal(taken.size, 3);
    for (const address of taken) {
      assert.ok(Number(address.split('.')[3]) >= 128, address);
      assert.notEqual(address, '10.99.0.130');
    }
    assert.ok(await lab.reaches('one', 'app'));
    const routes = await lab.docker('exec', 'one', 'ip', 'route');
    assert.match(routes, /default via 10\.99\.0\.1 dev eth0/);
    const said = await lab.refused(
      ...words`run --rm --net ranged --ip 10.99.0.50 calico-test true`,
    );
    assert.match(said, /10\.99\.0\.50 is in use by container app of network ranged on host/);
    const auxiliary = await lab.refused(
      ...words`run --rm --net ranged --ip 10.99.0.130 calico-test true`,
    );
    assert.match(auxiliary, /10\.99\.0\.130 is in use by the network as its auxiliary address/);
    assert.match(await lab.calico('get', 'ippool'), /10\.99\.0\.0\/24/);
  });

  test('the pool of a subnet went with its network', async () => {
    assert.doesNotMatch(await lab.calico('get', 'ippool'), /10\.99\./);
  });

  cleanly('what cannot be had is refused in one sentence', async () => {
    assert.match(
      await lab.refused(
        ...words`network create -d calico --ipam-driver calico-ipam --ipam-opt pool=nowhere net1`,
      ),
      /no enabled IP pool "nowhere".*default-ipv4-ippool/,
    );
    assert.match(
      await lab.refused(
        ...words`network create -d calico --ipam-driver calico-ipam --subnet 10.0.0.0/8 net1`,
      ),
      /10\.0\.0\.0\/8 overlaps IP pool default-ipv4-ippool/,
    );
    assert.match(
      await lab.refused(
        ...words`network create -d calico --ipam-driver calico-ipam -o colour=red net1`,
      ),
      /unknown network option "colour"; known: /,
    );
    for (const [subnet, reason] of [
      ['127.0.5.0/24', /127\.0\.0\.0\/8 is loopback/],
      ['224.0.5.0/24', /224\.0\.0\.0\/4 is multicast/],
      ['169.254.5.0/24', /169\.254\.0\.0\/16 is link-local/],
    ] as const) {
      const create = words`network create -d calico --subnet ${subnet} net1`;
      assert.match(await lab.refused(...create, '--ipam-driver', 'calico-ipam'), reason);
      assert.match(await lab.refused(...create), reason);
    }
    await lab.network('tiny', '--subnet', '10.98.0.0/30');
    for (const name of ['t1', 't2', 't3', 't4']) await lab.client(name, '--net', 'tiny');
    assert.match(
      await lab.refused('run', '--rm', '--net', 'tiny', 'calico-test', 'true'),
      /no free address in subnet 10\.98\.0\.0\/30 \(4 addresses\)/,
    );
    assert.match(
      await lab.refused('run', '--rm', '--net', 'tiny', '--ip', '10.98.0.9', 'calico-test', 'true'),
      /10\.98\.0\.9|user specified IP|no configured subnet|not in/i,
    );
  });

  cleanly('two networks share a subnet, and a network has two subnets', async () => {
    await lab.network('left', '--subnet', '10.97.0.0/24');
    await lab.network('right', '--subnet', '10.97.0.0/24');
    await lab.client('a1', '--net', 'left');
    await lab.client('b1', '--net', 'right');
    assert.notEqual(await lab.address('a1', 'left'), await lab.address('b1', 'right'));
    await lab.network('pair', '--subnet', '10.96.0.0/31', '--subnet', '10.96.1.0/31');
    for (const name of ['p1', 'p2', 'p3']) await lab.client(name, '--net', 'pair');
    const subnet = async (name: string) => (await lab.address(name, 'pair')).split('.')[2];
    assert.equal(await subnet('p1'), await subnet('p2'));
    assert.notEqual(await subnet('p3'), await subnet('p1'), 'the first subnet is full');
  });

  cleanly("a network of Docker's own IPAM works as well", async () => {
    await lab.docker('network', 'create', '--driver', 'calico', 'plain');
    await lab.docker('network', 'create', '--driver', 'calico', 'other');
    await lab.server('app', '--net', 'plain');
    await lab.client('inside', '--net', 'plain');
    await lab.client('outside', '--net', 'other');
    const address = await lab.address('app', 'plain');
    assert.match(address, /^172\.|^192\.168\./);
    assert.ok(await lab.reaches('inside', 'app'));
    assert.ok(await lab.pings('inside', '198.51.100.1'));
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () =>
        lab.calico('profile', 'plain', 'rule', 'add', 'inbound', 'allow', 'from', 'tag', 'other'),
    });
    assert.match(await lab.calico('ipam', 'show', '--ip', address), /network plain/);
  });

  cleanly('IPv6 beside IPv4, and published by name', async () => {
    await lab.network('dual', '--ipv6');
    await lab.network('other', '--ipv6');
    await lab.server('app', '--net', 'dual');
    await lab.client('inside', '--net', 'dual');
    await lab.client('outside', '--net', 'other');
    const address = await lab.address6('app', 'dual');
    assert.match(address, /^fd/);
    assert.ok(await lab.pings('inside', address));
    assert.ok(await lab.reaches('inside', address));
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () =>
        lab.calico('profile', 'dual', 'rule', 'add', 'inbound', 'allow', 'from', 'tag', 'other'),
    });
  });

  cleanly('a container on several networks is one identity on each', async () => {
    for (const name of ['red', 'blue', 'third']) await lab.network(name);
    await lab.server('redapp', '--net', 'red');
    await lab.server('blueapp', '--net', 'blue');
    await lab.client('stranger', '--net', 'third');
    await lab.docker(...words`create --name both --net red calico-test httpd -f -p 8080 -h /www`);
    await lab.docker('network', 'connect', 'blue', 'both');
    await lab.docker('start', 'both');
    const reachable = async () => {
      assert.ok(await lab.reaches('both', 'redapp'));
      assert.ok(await lab.reaches('both', 'blueapp'));
      assert.ok(await lab.reaches('redapp', await lab.address('both', 'red')));
      assert.ok(await lab.reaches('blueapp', await lab.address('both', 'blue')));
      assert.ok(await lab.hostReaches(await lab.address('both', 'red')));
      assert.ok(await lab.hostReaches(await lab.address('both', 'blue')));
    };
    await reachable();
    assert.equal(await lab.reaches('stranger', await lab.address('both', 'red')), false);
    assert.equal(await lab.reaches('stranger', await lab.address('both', 'blue')), false);
    assert.equal(await lab.reaches('redapp', 'blueapp'), false, 'the container is no bridge');
    await lab.docker('network', 'connect', 'third', 'both');
    assert.ok(
      await lab.eventually(async () => lab.reaches('stranger', await lab.address('both', 'third'))),
    );
    await reachable();
    await lab.docker('network', 'disconnect', 'third', 'both');
    await lab.docker('network', 'disconnect', 'red', 'both');
    assert.ok(await lab.reaches('both', 'blueapp'));
    const red = await lab.address('redapp', 'red');
    assert.ok(await lab.eventually(async () => !(await lab.reaches('both', red))));
  });

  cleanly('networks with subnets of their own, and a bridge network beside them', async () => {
    await lab.network('n1', '--subnet', '10.91.0.0/24');
    await lab.network('n2', '--subnet', '10.92.0.0/24');
    await lab.docker('network', 'create', 'abridge');
    await lab.server('app1', '--net', 'n1');
    await lab.server('app2', '--net', 'n2');
    await lab.server('plain', '--net', 'abridge');
    for (const order of [
      ['n1', 'n2', 'abridge'],
      ['abridge', 'n2', 'n1'],
    ]) {
      const [first = '', ...rest] = order;
      await lab.docker(
        ...words`create --name many --net ${first} calico-test httpd -f -p 8080 -h /www`,
      );
      for (const network of rest) await lab.docker('network', 'connect', network, 'many');
      await lab.docker('start', 'many');
      assert.ok(await lab.eventually(() => lab.reaches('many', 'app1')), order.join());
      assert.ok(await lab.eventually(() => lab.reaches('many', 'app2')), order.join());
      assert.ok(await lab.reaches('many', 'plain'), order.join());
      assert.ok(await lab.reaches('app1', await lab.address('many', 'n1')), order.join());
      assert.ok(await lab.reaches('app2', await lab.address('many', 'n2')), order.join());
      await lab.docker('rm', '-f', 'many');
    }
  });

  cleanly('an internal network keeps to itself', async () => {
    await lab.network('inner', '--internal');
    await lab.network('outer');
    await lab.server('app', '--net', 'inner');
    await lab.client('inside', '--net', 'inner');
    await lab.client('outside', '--net', 'outer');
    assert.ok(await lab.eventually(() => lab.reaches('inside', 'app')));
    assert.equal(await lab.pings('inside', '198.51.100.1'), false);
    const address = await lab.address('app', 'inner');
    assert.equal(await lab.reaches('outside', address), false);
    await lab.calico('profile', 'inner', 'rule', 'add', 'inbound', 'allow');
    assert.equal(await lab.reaches('outside', address), false, 'isolation comes before the rules');
  });

  cleanly(
    'a container on two internal networks reaches the peers of both, who keep apart',
    async () => {
      const inner = ['inner1', 'inner2'] as const;
      for (const name of inner) await lab.network(name, '--internal');
      await lab.network('outer');
      for (const name of [...inner, 'outer']) await lab.server(`on-${name}`, '--net', name);
      await lab.docker(
        'create',
        '--name',
        'both',
        '--net',
        'inner1',
        'calico-test',
        'httpd',
        '-f',
        '-p',
        '8080',
        '-h',
        '/www',
      );
      await lab.docker('network', 'connect', 'inner2', 'both');
      await lab.docker('start', 'both');
      const [on1, on2, outer] = [
        await lab.address('on-inner1', 'inner1'),
        await lab.address('on-inner2', 'inner2'),
        await lab.address('on-outer', 'outer'),
      ];
      for (const [index, address] of [on1, on2].entries()) {
        assert.ok(await lab.eventually(() => lab.reaches('both', address)), inner[index]);
      }
      for (const name of inner) {
        const back = await lab.address('both', name);
        assert.ok(await lab.eventually(() => lab.reaches(`on-${name}`, back)), name);
      }
      // Whatever their own Profiles let in.
      for (const name of [...inner, 'outer']) {
        await lab.calico('profile', name, 'rule', 'add', 'inbound', 'allow');
      }
      for (const [from, address] of [
        ['on-inner1', on2],
        ['on-inner2', on1],
        ['on-inner1', outer],
        ['both', outer],
        ['on-outer', on1],
        ['on-outer', await lab.address('both', 'inner2')],
      ] as const) {
        assert.equal(await lab.reaches(from, address), false, `${from} to ${address}`);
      }
      assert.equal(await lab.pings('both', '198.51.100.1'), false);
    },
  );

  cleanly('--network container:, --mac-address, -o mtu and rename', async () => {
    await lab.network('web', '-o', 'mtu=1400');
    await lab.server('app', '--net', 'web', '--mac-address', '02:42:ac:11:00:99');
    await lab.client('sidecar', '--net', 'container:app');
    await lab.client('peer', '--net', 'web');
    const link = await lab.docker('exec', 'sidecar', 'ip', 'link', 'show', 'eth0');
    assert.match(link, /02:42:ac:11:00:99/);
    assert.match(link, /mtu 1400/);
    assert.ok(await lab.reaches('sidecar', '127.0.0.1'));
    assert.match(
      await lab.calico('get', 'workloadendpoint', '-o', 'yaml'),
      /mac: 02:42:ac:11:00:99/,
    );
    await lab.docker('rename', 'app', 'renamed');
    assert.ok(
      await lab.eventually(async () =>
        (await lab.calico('get', 'workloadendpoint')).includes('renamed'),
      ),
    );
  });

  cleanly('names that Docker allows and Calico does not', async () => {
    for (const name of ['My_Net.X', 'proj_default', 'Web', 'web']) await lab.network(name);
    await lab.server('upper', '--net', 'Web');
    await lab.client('lower', '--net', 'web');
    await lab.client('same', '--net', 'Web');
    await lab.client('odd1', '--net', 'My_Net.X');
    await lab.server('odd2', '--net', 'My_Net.X');
    assert.ok(await lab.reaches('same', 'upper'));
    assert.ok(await lab.reaches('odd1', 'odd2'));
    const address = await lab.address('upper', 'Web');
    await lab.onlyAfter({
      probe: () => lab.reaches('lower', address),
      droppedAt: 'upper',
      change: () =>
        lab.calico('profile', 'Web', 'rule', 'add', 'inbound', 'allow', 'from', 'tag', 'web'),
    });
  });

  cleanly(
    'an address that another container gets does not bring the flows of the one before',
    async () => {
      await lab.network('heirs', '--subnet', '10.94.0.0/24');
      const start = (name: string) => lab.client(name, '--net', 'heirs', '--ip', '10.94.0.9');
      await start('first');
      await lab.client('peer', '--net', 'heirs');
      assert.ok(await lab.pings('peer', '10.94.0.9'));
      const flows = () => lab.host.run(['conntrack', '-L', '-p', 'icmp', '-d', '10.94.0.9']);
      await lab.docker('rm', '-f', 'first');
      assert.match(await flows(), /dst=10\.94\.0\.9 /);
      await start('second');
      assert.equal(await flows(), '');
      assert.ok(await lab.pings('peer', '10.94.0.9'));
    },
  );

  cleanly('a default Profile goes with its last network, an edited one stays', async () => {
    await lab.network('brief');
    await lab.network('edited');
    await lab.calico('profile', 'edited', 'rule', 'add', 'inbound', 'allow', 'icmp');
    await lab.docker('network', 'rm', 'brief', 'edited');
    const profiles = await lab.calico('get', 'profile');
    assert.doesNotMatch(profiles, /^brief/m);
    assert.match(profiles, /^edited/m);
    await lab.calico('profile', 'remove', 'edited');
  });
}
