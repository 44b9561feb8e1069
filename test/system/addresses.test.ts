import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { checkout } from '../lab/built.ts';
import { unlessLong } from '../lab/long.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'legacy', datastore: 'sqlite' },
  // As newer engines do, this one refuses clients of an older API.
  {
    engine: '28.5',
    backend: 'nft',
    datastore: 'etcd',
    dockerEnvironment: { DOCKER_MIN_API_VERSION: '1.44' },
  },
];

for (const kind of kinds)
  describe(kindName(kind), { timeout: 800_000 }, () => addressesSuite(kind));

/** What is changed of stored values, as another tool would. */
const storedObject = z.looseObject({
  metadata: z.looseObject({}).optional(),
  spec: z.looseObject({}).optional(),
  allocations: z.array(z.int().nullable()).optional(),
  unallocated: z.array(z.int()).optional(),
});

/** Families, options of networks and connections, labels, pools: what each of them does. */
function addressesSuite(kind: LabKind): void {
  const isNew = kind.engine !== '20.10';
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(kind);
    await lab.tour();
  });
  after(async () => lab[Symbol.asyncDispose]());

  const remove = async (containers: readonly string[], networks: readonly string[] = []) => {
    if (containers.length > 0) await lab.docker('rm', '-f', ...containers);
    if (networks.length > 0) await lab.docker('network', 'rm', ...networks);
  };
  /** docker network create of a calico network, with the options as one would type them. */
  const network = (name: string, options: string) => lab.network(name, ...options.split(' '));
  const client = (name: string, options: string) => lab.client(name, ...options.split(' '));
  const server = (name: string, options: string) => lab.server(name, ...options.split(' '));
  const apply = (resource: object) =>
    lab.host.run(['calico-cnm', 'apply', '-f', '-'], {
      input: JSON.stringify({ apiVersion: 'projectcalico.org/v3', ...resource }),
      env: lab.environment,
    });
  const allow = (selector: string) => ['allow', 'from', 'selector', selector];
  const addRule = (...rule: readonly string[]) =>
    lab.calico('profile', 'web', 'rule', 'add', 'inbound', ...rule);
  const removeRule = (...rule: readonly string[]) =>
    lab.calico('profile', 'web', 'rule', 'remove', 'inbound', ...rule);
  const isClean = async () =>
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);

  if (isNew) {
    test("no version of Docker's API is pinned (bug j of the 2019 plugin)", async () => {
      const old = await lab.host.exec(['docker', 'ps'], { env: { DOCKER_API_VERSION: '1.25' } });
      assert.match(old.stderr, /too old/);
      assert.match(await lab.calico('get', 'workloadendpoint', '-o', 'yaml'), /workload: app/);
    });

    test('what another tool does to a pool in use: an address freed, the pool split', async () => {
      const etcd = lab.etcd ?? assert.fail();
      const poolKey = '/calico/resources/v3/projectcalico.org/ippools/';
      const stored = (key: string) =>
        storedObject.parse(JSON.parse(etcd.etcdctl('get', '--print-value-only', key)));
      await network('pooled', '--subnet 10.94.0.0/24');
      await server('held', '--net pooled');
      const address = await lab.address('held', 'pooled');
      const last = Number(address.split('.')[3]);
      const ordinal = last % 64;
      const blockKey = `/calico/ipam/v2/assignment/ipv4/block/10.94.0.${last - ordinal}-26`;
      const { allocations = [], unallocated = [], ...block } = stored(blockKey);
      const freed = {
        ...block,
        allocations: allocations.with(ordinal, null),
        unallocated: [ordinal, ...unallocated],
      };
      etcd.etcdctl('put', '--', blockKey, JSON.stringify(freed));
      const said = await lab.refused(
        ...`run --rm --net pooled --ip ${address} calico-test true`.split(' '),
      );
      assert.match(said, /is in use by container held/);
      await client('next', '--net pooled');
      assert.notEqual(await lab.address('next', 'pooled'), address);
      await lab.calico('ipam', 'check', '--fix');
      await isClean();
      // As calicoctl ipam split does: copies of the pool for its parts, then it goes.
      const name = 'subnet-10-94-0-0-24';
      const pool = stored(`${poolKey}${name}`);
      for (const [index, cidr] of ['10.94.0.0/25', '10.94.0.128/25'].entries()) {
        const part = `split-${name}-${index}`;
        const copy = {
          ...pool,
          metadata: { ...pool.metadata, name: part },
          spec: { ...pool.spec, cidr },
        };
        etcd.etcdctl('put', '--', `${poolKey}${part}`, JSON.stringify(copy));
      }
      etcd.etcdctl('del', `${poolKey}${name}`);
      await client('later', '--net pooled');
      assert.ok(await lab.reaches('later', 'held'));
      await remove(['held', 'next', 'later'], ['pooled']);
      assert.doesNotMatch(await lab.calico('get', 'ippool'), /10\.94/);
      await isClean();
    });

    test('a network of IPv6 alone', async () => {
      await network('six', '--ipv4=false --ipv6');
      await server('six1', '--net six');
      await client('six2', '--net six');
      assert.equal(await lab.address('six1', 'six'), '');
      assert.ok(await lab.reaches('six2', 'six1'));
      assert.ok(await lab.reaches('six2', await lab.address6('six1', 'six')));
      assert.match(await lab.docker('exec', 'six2', 'ip', '-6', 'route'), /^default via fe80:/m);
      assert.doesNotMatch(await lab.docker('exec', 'six2', 'ip', 'address'), /inet .*eth0/);
      await remove(['six1', 'six2'], ['six']);
    });
  }

  test('packets to many link-local addresses leave no entries in the neighbour table', async () => {
    await network('near', '--ipv6');
    await client('near1', '--net near');
    const inside = async (...command: readonly string[]) => lab.docker('exec', 'near1', ...command);
    const nextHop = /fe80::\/64 via (fe80:\S+) dev eth0/;
    const routes = () => inside('ip', '-6', 'route');
    assert.ok(await lab.eventually(async () => nextHop.test(await routes())));
    const hop = nextHop.exec(await routes())?.[1] ?? assert.fail();
    // From its link-local address, which it has after a moment, it can only discover neighbours.
    const own = await lab.address6('near1', 'near');
    const pingsHop = words`docker exec near1 ping -6 -c 1 -W 1 -I ${own} ${hop}%eth0`;
    assert.ok(await lab.eventually(async () => (await lab.host.exec(pingsHop)).status === 0));
    // The container's network namespace, and that of the host.
    const entries = async () =>
      (await Promise.all([inside('ip', '-6', 'neigh'), lab.host.run(['ip', '-6', 'neigh'])])).join(
        '\n',
      );
    for (const source of ['eth0', own]) {
      await inside(
        'sh',
        '-c',
        `for i in $(seq 12); do ping -6 -c 1 -w 1 -I ${source} fe80::99:$i%eth0 & done; wait; true`,
      );
      assert.doesNotMatch(await entries(), /fe80::99:/);
    }
    // A process with NET_RAW sends past the container's routes: then only the host's rule is left.
    const local = /inet6 (fe80:[^/]+)\//.exec(await inside('ip', '-6', 'address'))?.[1];
    const dropped = async () => {
      const rules = await lab.host.run(['ip6tables-save', '-c', '-t', 'raw']);
      const rule = rules.split('\n').find((line) => line.includes('Link-local address of no host'));
      return Number(/^\[(\d+):/.exec(rule ?? '')?.[1]);
    };
    const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', 'near1');
    for (const source of [own, local ?? assert.fail()]) {
      const before = await dropped();
      const script = `${checkout}/test/lab/link-packets.ts`;
      await lab.host.run([
        ...words`nsenter --net=/proc/${pid}/ns/net ${checkout}/node_modules/.bin/node`,
        ...words`${script} echo ${source} 100`,
      ]);
      assert.equal(await dropped(), before + 100);
      assert.doesNotMatch(await entries(), /fe80::99:/);
    }
    await remove(['near1'], ['near']);
  });

  test('both subnets given: --ip and --ip6 are kept, and reach', async () => {
    await network('pair', '--ipv6 --subnet 10.91.0.0/24 --subnet fd00:91::/64');
    await server('p1', '--net pair --ip 10.91.0.10 --ip6 fd00:91::10');
    await client('p2', '--net pair');
    // With IPv6 off inside it still has IPv4.
    await client('p3', '--net pair --sysctl net.ipv6.conf.all.disable_ipv6=1');
    assert.equal(await lab.address('p1', 'pair'), '10.91.0.10');
    assert.equal(await lab.address6('p1', 'pair'), 'fd00:91::10');
    assert.ok(await lab.reaches('p2', '10.91.0.10'));
    assert.ok(await lab.reaches('p2', 'fd00:91::10'));
    assert.ok(await lab.reaches('p3', '10.91.0.10'));
    const taken = ['run', '--rm', '--net', 'pair', '--ip6', 'fd00:91::10', 'calico-test', 'true'];
    assert.match(await lab.refused(...taken), /fd00:91::10 is in use by/);
    await lab.docker('network', 'connect', 'pair', 'outside');
    assert.ok(await lab.eventually(() => lab.reaches('outside', 'fd00:91::10')));
    await lab.docker('network', 'disconnect', 'pair', 'outside');
    await remove(['p1', 'p2', 'p3'], ['pair']);
  });

  test('--ip in the second of several subnets', async () => {
    await network('two', '--subnet 10.92.0.0/24 --subnet 10.93.0.0/24');
    await server('t1', '--net two --ip 10.93.0.7');
    await client('t2', '--net two');
    assert.equal(await lab.address('t1', 'two'), '10.93.0.7');
    // docker's client sends the subnets in no fixed order.
    assert.match(await lab.address('t2', 'two'), /^10\.9[23]\./);
    assert.ok(await lab.reaches('t2', 't1'));
    await remove(['t1', 't2'], ['two']);
  });

  test('a connection chooses address and Profile while the container runs', async () => {
    await lab.calico('profile', 'add', 'ops');
    await addRule('allow', 'from', 'tag', 'ops');
    await network('side', '--subnet 10.94.0.0/24');
    const address = await lab.address('app', 'web');
    const connect = 'network connect --ip 10.94.0.9 --driver-opt org.projectcalico.profile=ops';
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () => lab.docker(...connect.split(' '), 'side', 'outside'),
    });
    assert.equal(await lab.address('outside', 'side'), '10.94.0.9');
    await lab.docker('network', 'disconnect', 'side', 'outside');
    assert.ok(await lab.eventually(async () => !(await lab.reaches('outside', address))));
    await client('opted', '--network name=other,driver-opt=org.projectcalico.profile=ops');
    assert.ok(await lab.reaches('opted', address));
    const wrong = 'run --rm --network name=other,driver-opt=org.projectcalico.colour=red';
    assert.match(
      await lab.refused(...wrong.split(' '), 'calico-test', 'true'),
      /unknown endpoint option "org\.projectcalico\.colour"; known: org\.projectcalico\.profile/,
    );
    await removeRule('allow', 'from', 'tag', 'ops');
    await remove(['opted'], ['side']);
    await lab.calico('profile', 'remove', 'ops');
  });

  test('connected and disconnected again and again, nothing is left over', async () => {
    await lab.network('loop');
    await server('looped', '--net loop');
    for (let n = 0; n < (unlessLong() === false ? 20 : 6); n++) {
      await lab.docker('network', 'connect', 'loop', 'outside');
      await lab.docker('network', 'disconnect', 'loop', 'outside');
    }
    await lab.docker('network', 'connect', 'loop', 'outside');
    assert.ok(await lab.eventually(() => lab.reaches('outside', 'looped')));
    await lab.docker('network', 'disconnect', 'loop', 'outside');
    await remove(['looped'], ['loop']);
    await isClean();
  });

  test('twenty containers that start at once have twenty addresses, and all reach', async () => {
    const names = Array.from({ length: 20 }, (_, n) => `many${n}`);
    await Promise.all(names.map((name) => client(name, '--net web')));
    const addresses = await Promise.all(names.map((name) => lab.address(name, 'web')));
    assert.equal(new Set(addresses).size, 20);
    for (const name of names) assert.ok(await lab.reaches(name, 'app'), name);
    await remove(names);
    await isClean();
  });

  // What follows is the same on every engine.
  if (isNew) return;

  test('an internal network: what comes in is refused and counted until the isolation goes', async () => {
    await network('inner', '--internal');
    await server('kept', '--net inner');
    await client('kept2', '--net inner');
    assert.ok(await lab.eventually(() => lab.reaches('kept2', 'kept')));
    await lab.calico('profile', 'inner', 'rule', 'add', 'inbound', 'allow', 'from', 'tag', 'other');
    const address = await lab.address('kept', 'inner');
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'kept',
      change: () => lab.calico('profile', 'xi--inner', 'rule', 'remove', 'inbound', '--at', '1'),
    });
    // The way out is refused twice: without a route, and by policy for one who makes a route.
    assert.equal(await lab.pings('kept', uplinkAddresses.far), false);
    await client('wilful', '--net inner --cap-add NET_ADMIN');
    const hop = await lab.docker('exec', 'wilful', 'sh', '-c', 'ip route | sed -n 1p');
    const via = /^(\S+) dev eth0/.exec(hop)?.[1] ?? assert.fail(hop);
    await lab.docker('exec', 'wilful', 'ip', 'route', 'add', 'default', 'via', via);
    await lab.onlyAfter({
      probe: () => lab.pings('wilful', uplinkAddresses.far),
      droppedAt: 'wilful',
      change: () => lab.calico('profile', 'xi--inner', 'rule', 'remove', 'outbound', '--at', '1'),
    });
    await remove(['kept', 'kept2', 'wilful'], ['inner']);
    await lab.calico('delete', 'profile', 'inner', 'xi--inner');
  });

  test('policy selects labels of networks and of Compose, and names that docker rename changes', async () => {
    const address = await lab.address('app', 'web');
    await network('labelled', '-o profiles=web,other');
    await client('several', '--net labelled');
    assert.ok(await lab.reaches('several', address), 'it has the Profile web, and so its tag');
    await network('tiered', '-o org.projectcalico.label.tier=back');
    await client(
      'composed',
      '--net tiered --label com.docker.compose.project=shop --label com.docker.compose.service=cart ' +
        '--label org.projectcalico.label.bad=not/legal?',
    );
    // A wrong label keeps nobody from starting.
    assert.match(lab.host.calicoLog(), /warn container label ignored container=composed .*bad=/);
    const probe = () => lab.reaches('composed', address);
    for (const selector of [
      "tier == 'back' && com.docker.network.name == 'tiered'",
      "com.docker.compose.project == 'shop' && com.docker.compose.service == 'cart'",
    ]) {
      await lab.onlyAfter({ probe, droppedAt: 'app', change: () => addRule(...allow(selector)) });
      await removeRule(...allow(selector));
      assert.ok(await lab.eventually(async () => !(await probe())));
    }
    const byName = "com.docker.container.name == 'renamed'";
    await addRule(...allow(byName));
    assert.equal(await probe(), false);
    await lab.docker('rename', 'composed', 'renamed');
    assert.ok(await lab.eventually(() => lab.reaches('renamed', address)));
    await removeRule(...allow(byName));
    await remove(['several', 'renamed'], ['labelled', 'tiered']);
  });

  test('a tag that a Profile gets is also that of its container on another network', async () => {
    const address = await lab.address('app', 'web');
    // The default route is by the network whose name sorts first, so its address is the source.
    await lab.network('aaa');
    await lab.docker('network', 'connect', 'aaa', 'outside');
    await addRule('allow', 'from', 'tag', 'late');
    await lab.onlyAfter({
      probe: () => lab.reaches('outside', address),
      droppedAt: 'app',
      change: () => lab.calico('profile', 'other', 'tag', 'add', 'late'),
    });
    await lab.calico('profile', 'other', 'tag', 'remove', 'late');
    assert.ok(await lab.eventually(async () => !(await lab.reaches('outside', address))));
    await removeRule('allow', 'from', 'tag', 'late');
    await lab.docker('network', 'disconnect', 'aaa', 'outside');
    await remove([], ['aaa']);
  });

  test('-o nat-outgoing=false: the router sees the container, else the host', async () => {
    await network(
      'routed',
      '-o nat-outgoing=false -o next-hop=169.254.7.7 -o interface-prefix=cal',
    );
    await client('seen', '--net routed');
    const routes = await lab.docker('exec', 'seen', 'ip', 'route');
    assert.match(routes, /^default via 169\.254\.7\.7 dev cal0/m);
    const address = await lab.address('seen', 'routed');
    const router = (command: string) =>
      lab.host.run(['ip', 'netns', 'exec', 'router', ...command.split(' ')]);
    await router(`iptables -A INPUT -p icmp -s ${address}`);
    await router(`iptables -A INPUT -p icmp -s ${uplinkAddresses.host}`);
    const counted = async () => {
      const listed = await router('iptables -S INPUT -v');
      const packets = [...listed.matchAll(/-c (\d+) \d+$/gm)].map(([, count]) => Number(count));
      return { container: packets.at(-2), host: packets.at(-1) };
    };
    assert.equal(
      await lab.pings('seen', uplinkAddresses.far),
      false,
      'the router knows no way back',
    );
    assert.deepEqual(await counted(), { container: 1, host: 0 });
    await router(`ip route add ${address} via ${uplinkAddresses.host}`);
    assert.ok(await lab.pings('seen', uplinkAddresses.far));
    assert.ok(await lab.pings('inside', uplinkAddresses.far));
    assert.deepEqual(await counted(), { container: 2, host: 1 });
    await router('iptables -F INPUT');
    await remove(['seen'], ['routed']);
  });

  test('reservations, a disabled pool and a pool of another host are kept from containers', async () => {
    const pool = (name: string, spec: object) =>
      apply({ kind: 'IPPool', metadata: { name }, spec: { blockSize: 30, ...spec } });
    await pool('small', { cidr: '10.95.0.0/29', natOutgoing: true });
    await pool('off', { cidr: '10.95.1.0/29', disabled: true });
    await pool('far', { cidr: '10.95.2.0/29', nodeSelector: "kubernetes.io/hostname == 'nobody'" });
    await apply({
      kind: 'IPReservation',
      metadata: { name: 'kept' },
      spec: { reservedCIDRs: ['10.95.0.0/30', '10.95.0.4/31'] },
    });
    await network('small', '--ipam-opt pool=small');
    for (const name of ['r1', 'r2']) await client(name, '--net small');
    const given = [await lab.address('r1', 'small'), await lab.address('r2', 'small')];
    assert.deepEqual(given.toSorted(), ['10.95.0.6', '10.95.0.7']);
    const full = await lab.refused('run', '--rm', '--net', 'small', 'calico-test', 'true');
    assert.match(full, /no free address in IP pool small .*8 addresses, 6 reserved/);
    // The command answers 1 while anything is not well.
    assert.match((await lab.calicoResult('status')).stdout, /^small +10\.95\.0\.0\/29 +0 +8$/m);
    const create = 'network create -d calico --ipam-driver calico-ipam --ipam-opt pool=off no';
    assert.match(await lab.refused(...create.split(' ')), /no enabled IP pool "off"/);
    await pool('tunnels', { cidr: '10.95.3.0/29', allowedUses: ['Tunnel'], ipipMode: 'Always' });
    const named = create.replace('=off', '=tunnels').split(' ');
    assert.match(
      await lab.refused(...named),
      /tunnels does not allow workloads \(allowedUses: Tunnel/,
    );
    const tunnel =
      /FAIL {2}dataplane: interface tunl0: this kernel has no IP-in-IP; load its module \(modprobe ipip\)|^ +ok +IPIP IPv4: tunl0 10\.95\.3\./m;
    assert.ok(
      await lab.eventually(async () => tunnel.test((await lab.calicoResult('status')).stdout)),
    );
    await remove(['r1', 'r2'], ['small']);
    for (const name of ['small', 'off', 'far', 'tunnels'])
      await lab.calico('delete', 'ippool', name);
    await lab.calico('delete', 'ipreservation', 'kept');
  });

  test("a full subnet of Docker's own, and one that another host has", async () => {
    const plain = 'network create -d calico --subnet 10.96.0.0/30 plain';
    await lab.docker(...plain.split(' '));
    await server('d1', '--net plain');
    const full = await lab.refused('run', '--rm', '--net', 'plain', 'calico-test', 'true');
    assert.match(full, /no available IPv4 addresses|no available/i);
    await remove(['d1'], ['plain']);
    await apply({
      kind: 'IPPool',
      metadata: {
        name: 'subnet-10-96-4-0-24',
        annotations: { 'docker.projectcalico.org/host-local': 'elsewhere' },
      },
      spec: { cidr: '10.96.4.0/24', blockSize: 26 },
    });
    assert.match(
      await lab.refused('network', 'create', '-d', 'calico', '--subnet', '10.96.4.0/24', 'plain'),
      /belongs to a network of host elsewhere.*--ipam-driver calico-ipam/,
    );
    await lab.calico('delete', 'ippool', 'subnet-10-96-4-0-24');
  });
}
