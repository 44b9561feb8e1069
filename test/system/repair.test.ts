import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { after, before, describe, test } from 'node:test';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'nft', datastore: 'sqlite' },
  { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
];
for (const kind of kinds) describe(kindName(kind), { timeout: 600_000 }, () => repairSuite(kind));

/** What others do to our part of the kernel is mended, and their part is left alone. */
function repairSuite(kind: LabKind): void {
  let lab: NetworkLab;
  let address = '';
  let address6 = '';
  let link = '';
  before(async () => {
    lab = await startLab(kind);
    await lab.tour('--ipv6');
    address = await lab.address('app', 'web');
    address6 = await lab.address6('app', 'web');
    const route = await lab.host.run(['ip', 'route', 'get', address]);
    link = /dev (cali\w+)/.exec(route)?.[1] ?? assert.fail(route);
    await theirRules();
  });
  after(async () => lab[Symbol.asyncDispose]());

  const sh = (script: string) => lab.host.run(['sh', '-c', script]);

  /** Rules of others, at both ends of the kernel's chains, in a chain of their own, and in a set. */
  async function theirRules(): Promise<void> {
    await sh(`for tool in iptables ip6tables; do
      $tool -N THEIRS; $tool -A THEIRS -m comment --comment theirs-in-theirs
      $tool -I FORWARD -m comment --comment theirs-first -j THEIRS
      $tool -A FORWARD -m comment --comment theirs-last
      $tool -I INPUT -m comment --comment theirs-input
      $tool -t nat -A POSTROUTING -m comment --comment theirs-nat
      $tool -t mangle -A FORWARD -m comment --comment theirs-mangle
    done
    ipset create theirs hash:ip; ipset add theirs 192.0.2.7`);
    await oursAreInPlace();
  }

  /** Ours go before what was put before them, and behind; only then the order is the one to be kept. */
  async function oursAreInPlace(): Promise<void> {
    const isInPlace = async () => {
      const { ipv4, ipv6 } = await state();
      return [ipv4, ipv6].every((rules) => {
        const forward = chainOf(rules, 'filter', 'FORWARD');
        const firstAndLast = [
          chainOf(rules, 'filter', 'INPUT')[0],
          forward[0],
          forward.at(-1),
          chainOf(rules, 'nat', 'POSTROUTING').at(-1),
        ];
        return firstAndLast.every((rule) => isOurs(rule ?? ''));
      });
    };
    assert.ok(await lab.eventually(isInPlace), (await state()).ipv4);
  }

  /** All that is there and that packets do not change: rules in their order, sets, routes, addresses. */
  async function state(): Promise<State> {
    const [ipv4, ipv6] = await Promise.all(
      ['iptables-save', 'ip6tables-save'].map(async (command) => plainRules(await sh(command))),
    );
    const rest = await sh(`ipset save | grep -v '^add cali[46]0d' | sort
      for f in -4 -6; do ip $f route show table all proto 80; done
      ip -6 -o addr show | grep -o 'cali.*inet6 [^ ]*' | sort`);
    return {
      ipv4: ipv4 ?? '',
      ipv6: ipv6 ?? '',
      rest: rest.replaceAll(/initval \S+|hashsize \d+/g, ''),
    };
  }

  /** Waits until the state is as wanted; if it does not come, shows what differs. */
  async function comesBack<Part>(look: () => Promise<Part>, wanted: Part): Promise<void> {
    const isBack = async () => isDeepStrictEqual(await look(), wanted);
    if (!(await lab.eventually(isBack))) assert.deepEqual(await look(), wanted);
  }

  /** Packets that rules of others have counted. */
  async function theirCounts(): Promise<ReadonlyMap<string, number>> {
    const saved = await sh('iptables-save -c; ip6tables-save -c');
    const found = saved.matchAll(/^\[(\d+):\d+\] -A .*(theirs-\w+)/gm);
    const counts = new Map<string, number>();
    for (const [, packets, name = ''] of found) {
      counts.set(name, (counts.get(name) ?? 0) + Number(packets));
    }
    return counts;
  }

  const ours4 = async () => ours((await state()).ipv4);

  async function isClosedAndOpen(): Promise<void> {
    assert.ok(await lab.reaches('inside', 'app'), 'what is allowed passes');
    const dropped = await lab.dropped('app');
    assert.equal(await lab.reaches('outside', address), false, 'what is not does not');
    assert.ok((await lab.dropped('app')) > dropped, 'and is counted');
  }

  const single: readonly (readonly [what: string, script: () => string])[] = [
    ['a member of a set', () => `ipset del cali40workloads ${address}/32,${link}`],
    ['all members of a set', () => `ipset flush cali60workloads`],
    ['an IPv4 route', () => `ip route del ${address}/32`],
    ['an IPv6 route', () => `ip -6 route del ${address6}/128`],
    [
      'a next hop',
      () =>
        `ip route del table local $(ip route show table local proto 80 | head -1 | cut -d' ' -f1-2)`,
    ],
    ['an interface, for a moment', () => `ip link set ${link} down; ip link set ${link} up`],
    ['one rule of a chain of ours', () => 'iptables -D cali-tw-web 1'],
    ['our rule in FORWARD', () => 'iptables -D FORWARD 1; ip6tables -D FORWARD 1'],
    // In one transaction: between two commands the daemon has the rule in INPUT back, and the chain is in use.
    [
      'a chain of ours',
      () =>
        String.raw`printf '*filter\n-D INPUT 1\n-F cali-INPUT\n-X cali-INPUT\nCOMMIT\n' | iptables-restore -n`,
    ],
    ['the IPv6 raw table', () => 'ip6tables -t raw -F'],
  ];
  const hop = () => '$(ip route show table local proto 80 | head -1 | cut -d" " -f2)';
  /** What stands in the place of something of ours, by whoever put it there. */
  const replaced: readonly (readonly [what: string, script: () => string])[] = [
    [
      'an IPv4 route, by one of the same interface',
      () => `ip route replace ${address} dev ${link}`,
    ],
    ['an IPv4 route, by another interface', () => `ip route replace ${address} dev lo`],
    ['an IPv4 route, by a blackhole', () => `ip route replace blackhole ${address}`],
    ['an IPv4 route, by an error', () => `ip route replace unreachable ${address}`],
    ['an IPv4 route, by one of our protocol', () => `ip route replace ${address} dev lo proto 80`],
    ['an IPv4 route, by a gateway', () => `ip route change ${address} via 127.0.0.9 dev lo`],
    [
      'an IPv4 route, by a removal and another',
      () => `ip route del ${address}; ip route add ${address} dev lo || true`,
    ],
    ['an IPv6 route, by another interface', () => `ip -6 route replace ${address6} dev lo`],
    ['an IPv6 route, by a blackhole', () => `ip -6 route replace blackhole ${address6}`],
    ['an IPv6 route, by an error', () => `ip -6 route replace unreachable ${address6}`],
    [
      'a next hop',
      () => `ip route replace local ${hop()} dev lo table local proto static scope host`,
    ],
    [
      'a next hop, by one that answers nobody',
      () => `ip route replace blackhole ${hop()} table local`,
    ],
    [
      'the members of a set, by those of another',
      () => `ipset save cali40workloads | head -1 | sed s/cali40workloads/other/ | ipset restore
      ipset add other 192.0.2.1,lo; ipset swap other cali40workloads; ipset destroy other`,
    ],
    ['one rule of a chain of ours', () => 'iptables -R cali-tw-web 1 -j ACCEPT'],
  ];
  const all = [
    ...single.map(([what, script]) => [`removed and back: ${what}`, script] as const),
    ...replaced.map(([what, script]) => [`replaced and back: ${what}`, script] as const),
  ];
  for (const [what, script] of all) {
    test(`${what}, and nothing else is changed`, async (context) => {
      assert.ok(await lab.reaches('inside', 'app'));
      const wanted = await state();
      const counts = await theirCounts();
      await sh(script());
      const started = performance.now();
      await comesBack(state, wanted);
      context.diagnostic(`seen to be back after ${(performance.now() - started).toFixed(0)} ms`);
      assert.ok(await lab.reaches('inside', 'app'));
      for (const [name, packets] of await theirCounts()) {
        assert.ok(packets >= (counts.get(name) ?? 0), `${name} counts on`);
      }
      assert.ok((await theirCounts()).get('theirs-mangle') !== counts.get('theirs-mangle'));
    });
  }

  test('who takes the place of a route again and again does not make the daemon do the same', async () => {
    const wanted = await state();
    const monitor = lab.host.spawn(['ip', 'monitor', 'route']);
    const writes = () =>
      monitor
        .output()
        .split('\n')
        .filter((line) => line.includes(address) && line.includes('proto 80')).length;
    const theft = `ip route replace ${address} dev lo`;
    await sh(`for i in $(seq 200); do ${theft}; sleep 0.02; done`);
    await comesBack(state, wanted);
    await monitor.end('SIGKILL');
    assert.ok(writes() > 0 && writes() < 20, monitor.output());
  });

  for (const table of ['filter', 'nat']) {
    test(`iptables -t ${table} -F: ours are back, and theirs as the command left them`, async () => {
      const { ipv4, ipv6 } = await state();
      await sh(`iptables -t ${table} -F`);
      await comesBack(ours4, ours(ipv4));
      const emptied = ipv4.replaceAll(new RegExp(`^\\*${table}$[^*]*`, 'gm'), (part) =>
        part.replaceAll(/^-A .*\n/gm, ''),
      );
      const now = await state();
      assert.deepEqual(theirs(now.ipv4), theirs(emptied));
      assert.equal(now.ipv6, ipv6);
      await isClosedAndOpen();
    });
  }

  if (kind.backend === 'nft') {
    test('nft flush ruleset: ours are back', async () => {
      const wanted = await ours4();
      await sh('nft add table inet theirs; nft flush ruleset');
      await comesBack(ours4, wanted);
      await isClosedAndOpen();
    });
  }

  test('Docker restarts: its rules and ours are there, and those of others where they were', async () => {
    await theirRulesIfGone();
    const wanted = (await state()).ipv4;
    await lab.host.stopDocker();
    await lab.host.startDocker();
    await lab.docker('start', 'app', 'inside', 'outside');
    address = await lab.address('app', 'web');
    await comesBack(ours4, ours(wanted));
    const now = (await state()).ipv4;
    assert.ok(now.includes(':DOCKER'));
    const named = (rules: string) => rules.split('\n').filter((line) => line.includes('theirs'));
    assert.deepEqual(named(now), named(wanted));
    await isClosedAndOpen();
  });

  async function theirRulesIfGone(): Promise<void> {
    await sh(`iptables -S | grep -q theirs-first || {
      iptables -I FORWARD -m comment --comment theirs-first; iptables -A FORWARD -m comment --comment theirs-last; }`);
    await oursAreInPlace();
  }
}

interface State {
  readonly ipv4: string;
  readonly ipv6: string;
  /** Sets, routes and addresses. */
  readonly rest: string;
}

/** What iptables-save says, without times and counters. */
function plainRules(saved: string): string {
  return saved
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => `${line.replace(/ \[\d+:\d+\]$/, '')}\n`)
    .join('');
}

/** The rules of one chain. */
function chainOf(rules: string, table: string, chain: string): readonly string[] {
  const [part = ''] = new RegExp(`^\\*${table}$[^*]*`, 'm').exec(rules) ?? [];
  return part.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
}

function isOurs(line: string): boolean {
  return line.includes('cali');
}

function ours(rules: string): readonly string[] {
  return rules.split('\n').filter(isOurs);
}

function theirs(rules: string): readonly string[] {
  return rules.split('\n').filter((line) => !isOurs(line));
}
