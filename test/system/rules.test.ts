import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { AddressSets } from '../../src/dataplane/address-sets.ts';
import { renderChain } from '../../src/dataplane/iptables/hash.ts';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { Ipset } from '../../src/dataplane/netlink/ipset.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { familyOf, parseAddress, type IpAddress, type IpFamily } from '../../src/ip/address.ts';
import { hostCidr } from '../../src/ip/cidr.ts';
import { protocolNumbers, type PortProtocol } from '../../src/ip/port-protocol.ts';
import { policyRule, type PolicyRule } from '../../src/model/policy-rule.ts';
import type { Profile } from '../../src/model/kinds/profile.ts';
import type { Selector } from '../../src/model/selector/ast.ts';
import { matches } from '../../src/model/selector/matches.ts';
import { countingSets, dropChains, filledSet } from '../../src/render/iptables/drop-chains.ts';
import {
  evaluateStack,
  type Packet,
  type PortNames,
} from '../../src/profiles/evaluate/evaluate.ts';
import { judged } from '../../src/profiles/evaluate/evaluate.fixture.ts';
import { stackOf } from '../../src/profiles/compile/stack.ts';
import { renderPolicy, type RuleCounter } from '../../src/render/iptables/policy-chains.ts';
import { stackChains } from '../../src/render/iptables/stack-chains.ts';
import { verdictChains } from '../../src/render/iptables/verdict-chains.ts';
import { namedPortSet, selectorSet } from '../../src/ruleset/names.ts';
import {
  compileProfile,
  namedPortsOf,
  selectorsOf,
  type CompiledPolicy,
} from '../../src/profiles/compile/compiled-policy.ts';
import { markBits, type Chain } from '../../src/render/iptables/rule.ts';
import { directions } from '../../src/ruleset/policy.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import { combinationsOfFields, rulesWith } from '../lab/rule-grammar.ts';

const namespace = enterNewNamespace();
const libc = loadLibc();
const ipset = new Ipset(NetlinkSocket.open(libc, 12));
after(() => namespace[Symbol.dispose]());

/** What the tests draw their rules by; a failure names it. */
const seed = Number(process.env['CALICO_TEST_SEED'] ?? 1);
const rulesOfCombination = 2;
/** How many rules are tried with packets, and with how many each. */
const triedRules = 40;
const packetsOfRule = 24;

/** Addresses that packets come from and go to, and the labels of those that are endpoints'. */
const ends: Readonly<Record<IpFamily, readonly (readonly [IpAddress, Labels | undefined])[]>> = {
  4: [
    [parseAddress('10.1.2.3'), { web: '', a: '', b: 'x' }],
    [parseAddress('10.1.9.9'), { a: '', b: 'y' }],
    [parseAddress('10.2.0.1'), { web: '' }],
    [parseAddress('192.0.2.1'), undefined],
    [parseAddress('172.16.0.1'), undefined],
  ],
  6: [
    [parseAddress('fd00:1::1'), { web: '', a: '', b: 'x' }],
    [parseAddress('fd00:1::2'), { a: '', b: 'y' }],
    [parseAddress('fd00:2::1'), { web: '' }],
    [parseAddress('2001:db8::1'), undefined],
  ],
};
type Labels = Readonly<Record<string, string>>;
/** Where endpoints have ports by a name, among other protocols' of the same numbers. */
const namedPorts: Readonly<Record<string, readonly NamedPlace[]>> = {
  http: [
    [parseAddress('10.1.2.3'), 'TCP', 80],
    [parseAddress('10.1.2.3'), 'UDP', 80],
    [parseAddress('10.2.0.1'), 'UDP', 8005],
    [parseAddress('fd00:1::1'), 'UDP', 80],
    [parseAddress('fd00:1::2'), 'SCTP', 443],
  ],
  dns: [
    [parseAddress('10.1.2.3'), 'UDP', 443],
    [parseAddress('10.1.9.9'), 'TCP', 443],
    [parseAddress('fd00:2::1'), 'UDP', 65535],
  ],
};
type NamedPlace = readonly [address: IpAddress, protocol: PortProtocol, port: number];
const hasNamedPort: PortNames = (name, address, { protocol, port }) =>
  (namedPorts[name] ?? []).some(
    ([at, of, number]) => at === address && protocolNumbers[of] === protocol && number === port,
  );
const portsOfPackets = [80, 443, 3 * 13, 3 * 500, 8005, 65535];
const udp = 17;

for (const backend of ['nft', 'legacy'] as const) {
  for (const family of [4, 6] as const) {
    describe(`iptables-${backend}, IPv${family}`, () => takesAllRules(backend, family));
  }
}

function takesAllRules(backend: Backend, family: IpFamily): void {
  const dropping = { family, denyAction: 'drop' } as const;
  const rejecting = { family, denyAction: 'reject' } as const;
  const combinations = combinationsOfFields();

  test(`the kernel takes rules with every single, pair and triple of fields`, () => {
    const rules = combinations.flatMap((fields) =>
      fc.sample(rulesWith(fields), { seed, numRuns: rulesOfCombination }).map((rule) => ({
        rule,
        fields,
      })),
    );
    const half = Math.ceil(rules.length / 2);
    for (const batch of [rules.slice(0, half), rules.slice(half)]) {
      const complaint = commit(batch.map(({ rule }) => rule));
      if (complaint === undefined) continue;
      let suspects = batch;
      while (suspects.length > 1) {
        const first = suspects.slice(0, suspects.length / 2);
        const isAmongThem = commit(first.map(({ rule }) => rule)) !== undefined;
        suspects = isAmongThem ? first : suspects.slice(first.length);
      }
      const bad = suspects[0] ?? assert.fail(complaint);
      // Says the smallest rule with these fields that is refused.
      fc.assert(
        fc.property(rulesWith(bad.fields), (rule) => {
          assert.equal(commit([rule]), undefined, JSON.stringify(rule));
        }),
        { seed, numRuns: 200 },
      );
      assert.fail(`${JSON.stringify(bad.rule)}: ${commit([bad.rule]) ?? ''}`);
    }
  });

  test('Profiles may have any name', () => {
    const names = fc.sample(fc.string({ unit: 'grapheme', maxLength: 40 }), { seed, numRuns: 200 });
    const odd = [
      '',
      ' ',
      'a b',
      '-j ACCEPT',
      'x\n-A cali-x -j ACCEPT',
      '"',
      "'",
      '\\',
      '!',
      '$(id)',
    ];
    const chains = [...new Set([...names, ...odd])].flatMap((name) => [
      ...renderPolicy(compileProfile(name, profileOf(name, { action: 'Allow' })), rejecting).chains,
      ...directions.flatMap((direction) =>
        stackChains(stackOf([], [name]), direction).map((one) => one.render(rejecting)),
      ),
    ]);
    const sets = new AddressSets(ipset);
    sets.resync();
    for (const set of countingSets(family)) sets.setDesired(set);
    sets.applyAdditions();
    assert.equal(commitChains([...chains, ...dropChains('filter', rejecting)]), undefined);
  });

  test('what the kernel does with packets is what the rules say', async () => {
    const combinations = combinationsOfFields().filter((fields) =>
      fields.every((field) => !/icmp|metadata/i.test(field)),
    );
    const rules = fc.sample(
      fc.constantFrom(...combinations).chain((fields) => rulesWith(fields)),
      { seed, numRuns: triedRules },
    );
    const exception: PolicyRule = policyRule.parse({
      action: 'Allow',
      source: { nets: ['10.0.0.0/8', 'fd00::/16'], notNets: ['10.1.0.0/16', 'fd00:1::/32'] },
    });
    using sender = new Sender(family);
    for (const rule of [exception, ...rules]) {
      const profile = compileProfile('p0', profileOf('p0', rule));
      assert.equal(install(profile), undefined, JSON.stringify(rule));
      const packets = fc.sample(packetOf(family), { seed, numRuns: packetsOfRule });
      for (const packet of packets) {
        const { isAllowed } = evaluateStack(judged([profile]), 'ingress', {
          packet,
          isMember: ({ selector }, address) => isMember(selector, address),
          hasNamedPort,
        });
        const what = `${JSON.stringify(packet)} by ${JSON.stringify(rule)}`;
        assert.equal(await sender.passes(packet), isAllowed, what);
      }
    }
    flush();
  });

  test('a rule that logs does so once for a packet, and the next rule decides', async () => {
    const log: PolicyRule = policyRule.parse({
      action: 'Log',
      protocol: 'UDP',
      destination: { ports: [80] },
    });
    const logged = () =>
      spawnSync(`${tool()}-save`, ['-c'], { encoding: 'utf8' })
        .stdout.split('\n')
        .filter((line) => line.includes('-j LOG --log-prefix "calico-packet: "'))
        .map((line) => Number(/^\[(\d+):/.exec(line)?.[1]));
    using sender = new Sender(family);
    const [packet] = fc.sample(packetOf(family), { seed, numRuns: 1 });
    assert.ok(packet !== undefined);
    for (const [index, action] of (['Allow', 'Deny'] as const).entries()) {
      const made = profileOf('p0', log);
      const rules = [log, policyRule.parse({ action })];
      const profile = { ...made, spec: { ingress: rules, egress: rules } };
      assert.equal(install(compileProfile('p0', profile)), undefined);
      for (const destinationPort of [80, 443]) {
        const passed = await sender.passes({ ...packet, destinationPort });
        assert.equal(passed, action === 'Allow', `${action}, port ${destinationPort}`);
      }
      assert.deepEqual(logged(), [1], `round ${index}: port 80 alone is logged`);
    }
    flush();
  });

  /** From now on UDP that is sent here is judged by the inbound rules of a Profile. */
  function install(profile: CompiledPolicy): string | undefined {
    const { chains, counters } = renderPolicy(profile, dropping);
    wantSets([profile], counters);
    const [chain] = chains;
    if (chain === undefined) return 'no chain';
    return restore([
      '-F',
      ...linesOf([...verdictChains(), chain]),
      `-A OUTPUT -p udp -j ${chain.name}`,
      `-A OUTPUT -p udp -m mark ! --mark ${markBits.accept}/${markBits.accept} -j DROP`,
    ]);
  }

  /** Commits the chains of Profiles that each have one of the rules; answers what the tool complained of. */
  function commit(rules: readonly PolicyRule[]): string | undefined {
    const profiles = rules.map((rule, index) =>
      compileProfile(`p${index}`, profileOf(`p${index}`, rule)),
    );
    for (const [index, { problem }] of profiles.entries()) {
      if (problem !== undefined) return `${JSON.stringify(rules[index])}: ${problem}`;
    }
    const rendered = profiles.map((profile) => renderPolicy(profile, dropping));
    wantSets(
      profiles,
      rendered.flatMap(({ counters }) => counters),
    );
    return commitChains(rendered.flatMap(({ chains }) => chains));
  }

  function wantSets(profiles: readonly CompiledPolicy[], drops: readonly RuleCounter[]): void {
    const sets = new AddressSets(ipset);
    sets.resync();
    for (const { set } of drops) sets.setDesired(filledSet(set, family));
    for (const { id, selector } of profiles.flatMap(selectorsOf)) {
      const name = selectorSet(family, id);
      sets.setDesired({ name, family, type: 'net', countsPackets: false });
      for (const [address] of ends[family]) {
        if (isMember(selector, address)) sets.addMember(name, hostCidr(address));
      }
    }
    for (const { id, name } of profiles.flatMap(namedPortsOf)) {
      const set = namedPortSet(family, id);
      sets.setDesired({ name: set, family, type: 'address,port', countsPackets: false });
      for (const [address, protocol, port] of namedPorts[name] ?? []) {
        if (familyOf(address) !== family) continue;
        sets.addMember(set, `${hostCidr(address)},${protocol.toLowerCase()}:${port}`);
      }
    }
    sets.applyAdditions();
  }

  function commitChains(chains: readonly Chain[]): string | undefined {
    const complaint = restore(linesOf([...verdictChains(), ...chains]));
    flush();
    return complaint;
  }

  function linesOf(chains: readonly Chain[]): readonly string[] {
    return [
      ...chains.map(({ name }) => `:${name} - [0:0]`),
      ...chains.flatMap(({ name, rules }) =>
        renderChain(rules, name).map(({ text }) => `-A ${name} ${text}`),
      ),
    ];
  }

  function flush(): void {
    restore(['-F', '-X']);
  }

  function restore(lines: readonly string[]): string | undefined {
    const input = `*filter\n${lines.join('\n')}\nCOMMIT\n`;
    const { status, stderr } = spawnSync(`${tool()}-restore`, ['--noflush'], {
      input,
      encoding: 'utf8',
    });
    if (status === 0) return undefined;
    const line = input.split('\n')[Number(/line:? (\d+)/.exec(stderr)?.[1]) - 1];
    return `${stderr.trim()} (${line ?? ''})`;
  }

  function tool(): string {
    return `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
  }
}

/** Sends packets from and to addresses of this host. */
class Sender implements Disposable {
  readonly #family: IpFamily;
  readonly #sockets = new Map<string, Promise<Socket>>();

  constructor(family: IpFamily) {
    this.#family = family;
    for (const [address] of ends[family]) {
      const noDad = family === 6 ? ['nodad'] : [];
      execFileSync('ip', ['address', 'replace', hostCidr(address), 'dev', 'lo', ...noDad]);
    }
  }

  /** Whether a datagram leaves: the kernel tells the sender of one that OUTPUT drops. */
  async passes({ source, sourcePort, destination, destinationPort }: Packet): Promise<boolean> {
    const key = `${source} ${sourcePort}`;
    const bound = this.#sockets.get(key) ?? this.#bind(source, sourcePort);
    this.#sockets.set(key, bound);
    const socket = await bound;
    return new Promise((resolve, reject) => {
      socket.send('?', destinationPort, destination, (error) => {
        if (error === null) resolve(true);
        else if ('code' in error && error.code === 'EPERM') resolve(false);
        else reject(error);
      });
    });
  }

  async #bind(address: IpAddress, port: number): Promise<Socket> {
    const socket = createSocket(this.#family === 4 ? 'udp4' : 'udp6');
    socket.bind(port, address);
    await once(socket, 'listening');
    return socket;
  }

  [Symbol.dispose](): void {
    for (const bound of this.#sockets.values()) void bound.then((socket) => socket.close());
  }
}

function packetOf(family: IpFamily): fc.Arbitrary<Packet> {
  const address = fc.constantFrom(...ends[family].map(([one]) => one));
  const port = fc.constantFrom(...portsOfPackets);
  return fc.record({
    source: address,
    destination: address,
    protocol: fc.constant(udp),
    sourcePort: port,
    destinationPort: port,
  });
}

/** A selector matches endpoints only. */
function isMember(selector: Selector, address: IpAddress): boolean {
  const labels = [...ends[4], ...ends[6]].find(([one]) => one === address)?.[1];
  return labels !== undefined && matches(selector, new Map(Object.entries(labels)));
}

function profileOf(name: string, rule: PolicyRule): Profile {
  return {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { ingress: [rule], egress: [rule] },
  };
}
