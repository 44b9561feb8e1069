import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { applyContainerRoutes } from '../../src/dataplane/routes/container-routes.ts';
import { findLink } from '../../src/dataplane/netlink/link.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { ourProtocol, routeTables, type Route } from '../../src/dataplane/netlink/route.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { routeClasses, type RouteClass } from '../../src/dataplane/routes/route-classes.ts';
import { Routes } from '../../src/dataplane/routes/routes.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { cidrFamily, parseCidr } from '../../src/ip/cidr.ts';
import { KernelAgent, profile } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const sh = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' });

/** Blocks of this host, as a class beside the routes to endpoints: same table, same protocol. */
const block: RouteClass = {
  table: routeTables.main,
  protocol: ourProtocol,
  rank: 1,
  isOwn: ({ destination, type }) => type === 'blackhole' && destination.endsWith('/26'),
  interfaceOf: () => 'lo',
  plan: () => ({ type: 'blackhole', scope: 'global' }),
  isHandedOver: false,
};

describe('owners of routes', () => {
  const libc = loadLibc();
  const socket = NetlinkSocket.open(libc, 0);
  const endpoints = new Routes(socket, async () => undefined);
  // What is not of interest here is of a table that nobody has.
  const other = { ...block, table: 4242 };
  const blocks = new Routes(socket, async () => undefined, {
    endpoint: other,
    prefix: { ...other, table: 4243 },
    block: { ...other, table: 4244 },
    local: block,
  });
  const [first, second] = [parseCidr('10.65.0.0/26'), parseCidr('10.65.0.64/26')];
  const show = (what: string) => sh(`ip route show ${what}`);

  before(() => {
    sh(`ip link add cali0a type veth peer name tempa; ip link set cali0a up; ip link set tempa up
      ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up`);
    endpoints.setDesired({
      kind: 'endpoint',
      destination: parseCidr('10.65.0.1/32'),
      interface: 'cali0a',
    });
    blocks.setDesired({ kind: 'local', destination: first });
    blocks.setDesired({ kind: 'local', destination: second });
  });
  after(() => socket.close());

  test('two owners in one table each keep theirs over a resync, and remove no more than theirs', async () => {
    for (let turn = 0; turn < 2; turn++) {
      for (const owner of [endpoints, blocks]) {
        owner.resync();
        await owner.apply();
        assert.deepEqual(owner.failures(), []);
      }
    }
    const all =
      /^10\.65\.0\.1 dev cali0a .*\n?blackhole 10\.65\.0\.0\/26 .*\nblackhole 10\.65\.0\.64\/26/m;
    assert.match(sort(show('proto 80')), all);
    blocks.deleteDesired({ kind: 'local', destination: second });
    await blocks.apply();
    assert.equal(show('10.65.0.64/26'), '');
    assert.match(show('proto 80'), /10\.65\.0\.1 dev cali0a/);
    sh(
      'ip route add blackhole 10.65.0.128/26 proto 80; ip route add 10.65.0.9/32 dev cali0a proto 80',
    );
    for (const owner of [endpoints, blocks]) {
      owner.resync();
      await owner.apply();
    }
    assert.equal(show('10.65.0.128/26') + show('10.65.0.9'), '', 'what each left behind is gone');
    assert.match(show('proto 80'), /10\.65\.0\.1 dev cali0a/);
    assert.match(show('proto 80'), /blackhole 10\.65\.0\.0\/26/);
  });

  test('routes of BIRD, of the administrator, and of our protocol that nobody owns stay', async () => {
    const foreign = `10.9.0.0/26 dev up0 proto bird
      10.9.0.77/32 dev up0 proto bird
      10.9.1.1/32 dev up0 proto static
      10.9.2.1/32 dev cali0a proto static
      10.9.3.0/24 dev up0 proto 80
      blackhole 10.9.4.0/24 proto 80
      10.9.5.1/32 dev up0 table 100 proto 80`.split('\n');
    sh(foreign.map((route) => `ip route add ${route}`).join(';'));
    const all = () => sh('ip -4 route show table all');
    const before = all();
    for (const owner of [endpoints, blocks]) {
      owner.resync();
      await owner.apply();
    }
    assert.equal(all(), before);
  });

  test('of two classes that want one place the one of lower rank has it, then the other', async () => {
    const destination = parseCidr('10.65.7.1/32');
    const isOwn: RouteClass['isOwn'] = (route) => route.destination === destination;
    const both = new Routes(socket, async () => undefined, {
      endpoint: { ...routeClasses.endpoint, isHandedOver: false, isOwn },
      prefix: routeClasses.prefix,
      block: routeClasses.block,
      local: { ...block, isOwn },
    });
    both.resync();
    both.setDesired({ kind: 'local', destination });
    await both.apply();
    assert.match(show(destination), /blackhole/);
    both.setDesired({ kind: 'endpoint', destination, interface: 'cali0a' });
    await both.apply();
    assert.match(show(destination), /dev cali0a/);
    both.deleteDesired({ kind: 'endpoint', destination });
    await both.apply();
    assert.match(show(destination), /blackhole/);
    both.deleteDesired({ kind: 'local', destination });
    await both.apply();
    assert.equal(show(destination), '');
  });

  test('a route that was put before ours while nobody listened stays, and comes after ours', async () => {
    sh('ip route prepend 10.65.0.1/32 dev up0 proto static');
    assert.match(sh('ip route get 10.65.0.1'), /dev up0/);
    endpoints.resync();
    assert.equal(endpoints.has(parseCidr('10.65.0.1/32'), 'cali0a'), false);
    await endpoints.apply();
    assert.match(sh('ip route get 10.65.0.1'), /dev cali0a/);
    assert.match(show('10.65.0.1'), /dev up0 proto static/);
    assert.ok(endpoints.has(parseCidr('10.65.0.1/32'), 'cali0a'));
    sh('ip route del 10.65.0.1/32 dev up0');
  });
});

describe('an address that goes to a new owner', () => {
  const socket = NetlinkSocket.open(loadLibc(), 0);
  const destinations = ['10.68.0.1/32', 'fd68::1/128'].map(parseCidr);
  const [four = assert.fail()] = destinations;
  /** The hand-overs that are under way: what of, and how each ends. */
  const underWay: { readonly of: readonly string[]; readonly end: (error?: Error) => void }[] = [];
  const routes = new Routes(
    socket,
    (of) =>
      new Promise((resolve, reject) => {
        underWay.push({ of, end: (error) => (error === undefined ? resolve() : reject(error)) });
      }),
  );
  /** The routes there are, without spaces at their ends. */
  const shown = () =>
    destinations.map((one) => sh(`ip -${cidrFamily(one)} route show ${one}`).trim());
  const leads = (name: string) =>
    shown().every((text) => text.includes(name) && text.split('\n').length === 1);
  const setDesired = (name: string) => {
    for (const destination of destinations) {
      routes.setDesired({ kind: 'endpoint', destination, interface: name });
    }
  };
  const deleteDesired = () => {
    for (const destination of destinations) routes.deleteDesired({ kind: 'endpoint', destination });
  };
  const link = (name: string) => {
    sh(`ip link add ${name} type veth peer name ${name}x; ip link set ${name} up`);
    routes.linkChanged(name, findLink(socket, name));
  };
  /** The next hand-over, which is ended by what it answers, and the call that waits for it. */
  const begin = () => {
    const applied = routes.apply();
    assert.ok(applied !== undefined, 'it is handed over');
    const { of, end } = underWay.pop() ?? assert.fail();
    return { of, end: (error?: Error) => (end(error), applied) };
  };

  before(() => {
    routes.resync();
    link('cali9a');
    link('cali9b');
  });
  afterEach(() => {
    deleteDesired();
    assert.equal(routes.apply(), undefined);
    assert.deepEqual(underWay, []);
    assert.deepEqual(shown(), ['', '']);
  });
  after(() => socket.close());

  test('is held back from when it is known, until its interface is there', async () => {
    setDesired('cali9new');
    const handing = begin();
    assert.deepEqual(handing.of, destinations);
    assert.ok(leads('blackhole'));
    await handing.end();
    assert.ok(leads('blackhole'), 'nothing else leads there while it has no interface');
    routes.resync();
    assert.equal(routes.apply(), undefined, 'nor is it handed over again');
    link('cali9new');
    assert.equal(routes.apply(), undefined);
    assert.ok(leads('dev cali9new'));
    assert.ok(destinations.every((one) => routes.has(one, 'cali9new')));
  });

  test('whose interface comes while it is handed over is routed when that is done', async () => {
    setDesired('cali9late');
    const handing = begin();
    link('cali9late');
    assert.ok(leads('blackhole'));
    await handing.end();
    assert.ok(leads('dev cali9late'));
  });

  test('is handed over once more where another owner is wanted meanwhile', async () => {
    setDesired('cali9a');
    const handing = begin();
    setDesired('cali9b');
    await handing.end();
    assert.ok(leads('blackhole'));
    await begin().end();
    assert.ok(leads('dev cali9b'));
  });

  test('is not routed where it is wanted no more meanwhile', async () => {
    setDesired('cali9a');
    const handing = begin();
    deleteDesired();
    await handing.end();
    assert.deepEqual(shown(), ['', '']);
    setDesired('cali9a');
    await begin().end();
    assert.ok(leads('dev cali9a'), 'and is handed over when it is wanted again');
  });

  test('is handed over once more where somebody let packets go another way', async () => {
    for (const isDuring of [true, false]) {
      const name = isDuring ? 'cali9a' : 'cali9none';
      setDesired(name);
      const handing = begin();
      if (!isDuring) await handing.end();
      sh(`ip route del ${four}`);
      const gone: Route = { destination: four, table: 254, type: 'blackhole', scope: 'global' };
      const { destination, table } = gone;
      const told = { destination, table, metric: 0, protocol: ourProtocol, linkIndex: undefined };
      assert.ok(routes.routeGone({ ...told, route: gone }));
      const applied = isDuring ? handing.end() : undefined;
      await applied;
      const again = begin();
      assert.deepEqual(again.of, [four]);
      assert.match(sh(`ip route show ${four}`), /^blackhole/);
      await again.end();
      assert.match(sh(`ip route show ${four}`), isDuring ? /dev cali9a/ : /^blackhole/);
      deleteDesired();
      await routes.apply();
    }
  });

  test('stays held back where flows cannot be ended, which is told', async () => {
    setDesired('cali9a');
    await begin().end(new Error('they cannot be listed'));
    assert.ok(leads('blackhole'));
    assert.deepEqual(
      routes.failures().map(({ why }) => why),
      destinations.map(() => 'they cannot be listed'),
    );
    assert.equal(routes.apply(), undefined, 'it is not tried again at once');
    assert.ok(await eventually(() => routes.hasDue));
    await begin().end();
    assert.ok(leads('dev cali9a'));
    assert.deepEqual(routes.failures(), []);
  });
});

describe('routes to the blocks of other nodes', () => {
  const socket = NetlinkSocket.open(loadLibc(), 0);
  const routes = new Routes(socket, async () => undefined);
  const show = (destination: string) =>
    sh(`ip -${destination.includes(':') ? 6 : 4} route show ${destination}`).trim();
  const link = (name: string) => {
    sh(`ip link add ${name} type veth peer name x${name}; ip link set x${name} up
      ip link set ${name} up`);
    return routes.linkChanged(name, findLink(socket, name));
  };
  const lead = (destination: string, name: string, gateway: string) =>
    routes.setDesired({
      kind: 'block',
      destination: parseCidr(destination),
      via: { interface: name, gateway: parseAddress(gateway) },
    });
  const settled = () => {
    assert.equal(routes.apply(), undefined);
    assert.deepEqual(routes.failures(), []);
  };
  before(() => routes.resync());
  after(() => socket.close());

  test('wait for their interface, whether its addresses are there or not, and go with it', () => {
    lead('10.71.0.0/26', 'tunnel4', '10.71.0.1');
    lead('fd71::/122', 'tunnel6', 'fd71::1');
    settled();
    assert.deepEqual([show('10.71.0.0/26'), show('fd71::/122')], ['', '']);
    assert.ok(link('tunnel4') && link('tunnel6'));
    assert.equal(link('unused'), false);
    settled();
    assert.match(show('10.71.0.0/26'), / via 10\.71\.0\.1 dev tunnel4 proto 82 onlink$/);
    assert.match(show('fd71::/122'), / via fd71::1 dev tunnel6 proto 82 metric 1024 onlink/);
    sh('ip link del unused');
  });

  test('move between a direct route and a tunnel, in both address families', () => {
    link('direct');
    sh('ip addr add 172.16.9.1/24 dev direct; ip -6 addr add fd72::1/64 dev direct nodad');
    for (let turn = 0; turn < 2; turn++) {
      lead('10.71.0.0/26', 'direct', '172.16.9.2');
      lead('fd71::/122', 'direct', 'fd72::2');
      settled();
      assert.match(show('10.71.0.0/26'), / via 172\.16\.9\.2 dev direct /);
      assert.match(show('fd71::/122'), / via fd72::2 dev direct /);
      lead('10.71.0.0/26', 'tunnel4', '10.71.0.1');
      lead('fd71::/122', 'tunnel6', 'fd71::1');
      settled();
      assert.match(show('10.71.0.0/26'), / via 10\.71\.0\.1 dev tunnel4 /);
      assert.match(show('fd71::/122'), / via fd71::1 dev tunnel6 /);
    }
    routes.resync();
    settled();
    assert.match(show('fd71::/122'), / via fd71::1 dev tunnel6 /);
  });

  test('give way to the route to a container of this host, and come back after it', async () => {
    const destination = parseCidr('10.71.0.9/32');
    routes.setDesired({ kind: 'block', destination });
    settled();
    assert.match(sh(`ip route show type blackhole`), /10\.71\.0\.9 proto 82/);
    link('cali71');
    for (let turn = 0; turn < 2; turn++) {
      routes.setDesired({ kind: 'endpoint', destination, interface: 'cali71' });
      const handing = routes.apply();
      assert.ok(handing !== undefined, 'it is handed over each time');
      await handing;
      assert.match(sh('ip route show 10.71.0.9'), /dev cali71 proto 80 scope link/);
      routes.deleteDesired({ kind: 'endpoint', destination });
      settled();
      assert.match(sh(`ip route show type blackhole`), /10\.71\.0\.9 proto 82/);
    }
    routes.deleteDesired({ kind: 'block', destination });
    settled();
  });

  test('are left where another program has one, and named', () => {
    sh('ip route add 10.71.1.0/26 via 172.16.9.3 dev direct proto static');
    lead('10.71.1.0/26', 'direct', '172.16.9.2');
    assert.equal(routes.apply(), undefined);
    const [failure] = routes.failures();
    assert.equal(failure?.what, 'route to 10.71.1.0/26');
    assert.match(failure?.why ?? '', /this host has another route there by direct/);
    assert.match(show('10.71.1.0/26'), / via 172\.16\.9\.3 dev direct proto static/);
  });
});

describe('owners of routes and rules in a container', () => {
  const libc = loadLibc();
  const path = `/run/netns/${namespace.name}`;
  const paths = ['a', 'b'].map((name, index) => ({
    address: parseAddress(`10.67.${index}.1`),
    shownBy: parseAddress(`10.67.${index}.1`),
    nextHop: parseAddress(`169.254.9.${index + 1}`),
    peers: [parseCidr(`10.67.${index}.0/24`)],
    name: `in${name}`,
  }));

  before(() => {
    for (const { name, address } of paths) {
      sh(`ip link add ${name} type veth peer name far${name}; ip link set far${name} up
        ip link set ${name} up; ip addr add ${address}/32 dev ${name}`);
    }
  });

  test('what others have at the same priorities and in the same tables stays', () => {
    sh(`ip rule add from 10.99.0.1 priority 20000 lookup 77 protocol static
      ip rule add to 10.99.0.0/24 priority 20100 lookup main
      ip route add 10.99.0.0/24 dev lo table 52001 proto static
      ip route add 10.98.0.0/24 dev lo table 52001 proto 80`);
    const theirs = () =>
      [sh('ip rule'), sh('ip route show table 52001')].map((shown) =>
        shown.split('\n').filter((line) => /10\.9[89]\./.test(line)),
      );
    const before = theirs();
    assert.deepEqual(applyContainerRoutes(libc, path, { paths, isPlain: false }), []);
    assert.match(sh('ip rule'), /^20000:\s+from 10\.67\.0\.1 lookup 52\d+ proto 80/m);
    assert.match(sh('ip rule'), /^20050:\s+from all lookup main suppress_prefixlength 0/m);
    assert.match(sh('ip rule'), /^20100:\s+from all to 10\.67\.1\.0\/24 lookup 52/m);
    assert.deepEqual(theirs(), before);
    assert.deepEqual(applyContainerRoutes(libc, path, { paths: [], isPlain: false }), []);
    assert.doesNotMatch(sh('ip rule'), /10\.67|suppress/);
    assert.deepEqual(theirs(), before);
  });

  test('rules of a release before, which say no protocol, are ours', () => {
    sh('ip rule add from 10.67.0.1 priority 20000 lookup 52009 protocol 0');
    applyContainerRoutes(libc, path, { paths: [], isPlain: false });
    assert.doesNotMatch(sh('ip rule'), /10\.67/);
  });

  test('what is refused of one interface is told, and holds up nothing of the other', () => {
    sh('ip link set ina down');
    const failures = applyContainerRoutes(libc, path, { paths, isPlain: false });
    assert.deepEqual(
      failures.map(({ what }) => what),
      ['route by 169.254.9.1'],
    );
    assert.match(failures[0]?.why ?? '', /cannot set the route to 0\.0\.0\.0\/0: ENETDOWN/);
    assert.match(sh('ip rule'), /to 10\.67\.1\.0\/24 lookup 52/);
    assert.match(sh('ip route show table all default'), /via 169\.254\.9\.2 dev inb/);
    sh('ip link set ina up');
    assert.deepEqual(applyContainerRoutes(libc, path, { paths, isPlain: false }), []);
    assert.match(sh('ip route show table all default'), /via 169\.254\.9\.1 dev ina/);
    applyContainerRoutes(libc, path, { paths: [], isPlain: false });
  });
});

describe('a route that somebody adds in the way of ours', { timeout: 600_000 }, () => {
  let lab: KernelAgent;
  const facts = {
    name: 'app',
    networks: ['10.66.0.1/32', 'fd66::1/128'],
    profiles: ['web'],
    interfaceName: 'cali00app',
  };
  const failures = () => lab.agent.health.failures.map(({ what, why }) => `${what}: ${why}`);

  before(async () => {
    sh(
      'ip link show up0 || ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up',
    );
    lab = await KernelAgent.start('nft');
    await lab.write((draft) => draft.put('Profile', 'web', profile('web', [{ action: 'Allow' }])));
    await lab.join(facts);
  });
  after(async () => {
    await lab.leave(facts);
    await lab[Symbol.asyncDispose]();
  });

  test('before it, of the same metric: ours is the first again, and theirs stays', async () => {
    sh('ip route prepend 10.66.0.1/32 dev up0 proto static');
    assert.ok(await eventually(() => /dev cali00app/.test(sh('ip route get 10.66.0.1'))));
    assert.match(sh('ip route show 10.66.0.1'), /dev up0 proto static/);
    await lab.settled();
    assert.deepEqual(failures(), []);
    sh('ip route del 10.66.0.1/32 dev up0');
    await lab.settled();
    assert.match(sh('ip route get 10.66.0.1'), /dev cali00app/);
  });

  test('again and again: the daemon does not do the same without end', async () => {
    const { rtnetlink } = lab.sockets;
    const before = rtnetlink.requests;
    const theft = 'ip route prepend 10.66.0.1/32 dev up0 proto static';
    execFileSync('sh', [
      '-c',
      `for i in $(seq 100); do ${theft}; sleep 0.02; ip route del 10.66.0.1/32 dev up0; done; ${theft}`,
    ]);
    assert.ok(await eventually(() => /dev cali00app/.test(sh('ip route get 10.66.0.1'))));
    await lab.settled();
    assert.deepEqual(failures(), []);
    // Two for each time that ours is made the first again.
    assert.ok(rtnetlink.requests - before < 40, String(rtnetlink.requests - before));
    sh('ip route del 10.66.0.1/32 dev up0');
  });

  test('after it: nothing is done', async () => {
    sh('ip route append 10.66.0.1/32 dev up0 proto static');
    const shown = sh('ip route show 10.66.0.1');
    await lab.settled();
    assert.equal(sh('ip route show 10.66.0.1'), shown);
    assert.deepEqual(failures(), []);
    sh('ip route del 10.66.0.1/32 dev up0');
  });

  test('of a lower metric: it stays and is named, until it is gone', async () => {
    const endpoint = [...lab.store.mirror.list('WorkloadEndpoint').values()][0]?.value;
    assert.ok(endpoint !== undefined && lab.agent.isProgrammed(endpoint));
    sh('ip -6 route add fd66::1/128 dev up0 metric 10 proto bird');
    const named = 'route to fd66::1/128: another route of this host comes before it by up0';
    assert.ok(await eventually(() => failures().includes(named)), failures().join());
    assert.equal(lab.agent.isProgrammed(endpoint), false);
    assert.match(sh('ip -6 route show fd66::1'), /dev up0 proto bird metric 10/);
    sh('ip -6 route del fd66::1/128 dev up0 metric 10');
    assert.ok(await eventually(() => failures().length === 0 && lab.agent.isProgrammed(endpoint)));
  });

  test('in a place that ours does not have yet: it is named, and ours comes when it goes', async () => {
    sh('ip route add 10.66.0.2/32 dev up0 proto bird');
    const late = {
      ...facts,
      name: 'late',
      networks: ['10.66.0.2/32'],
      interfaceName: 'cali00late',
    };
    await assert.rejects(lab.join(late), /this host has another route there by up0/);
    assert.match(sh('ip route show 10.66.0.2'), /dev up0 proto bird/);
    sh('ip route del 10.66.0.2/32 dev up0');
    assert.ok(await eventually(() => /dev cali00late/.test(sh('ip route show 10.66.0.2'))));
    await lab.leave(late);
  });
});

function sort(lines: string): string {
  return lines.split('\n').toSorted().join('\n');
}
