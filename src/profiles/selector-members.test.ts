import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr, parseNet } from '../ip/cidr.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { selectorId } from '../model/selector/canonical.ts';
import { matches } from '../model/selector/matches.ts';
import { parseSelector } from '../model/selector/parse.ts';
import { selectorSet } from '../ruleset/names.ts';
import { PolicyEngine } from './policy-engine.ts';

/** The members of the set of a rule's selector: an engine in, members out. */

const apiVersion = 'projectcalico.org/v3';
type Labels = Readonly<Record<string, string>>;

interface Facts {
  readonly labels: Labels;
  readonly profiles: readonly string[];
  readonly addresses: readonly string[];
  readonly prefixes?: readonly string[];
  readonly orchestrator?: string;
  readonly node: string;
}

class Room {
  readonly members = new Map<string, Set<string>>();
  readonly engine = new PolicyEngine({
    node: 'here',
    families: [4, 6],
    output: {
      setPolicy: () => undefined,
      removePolicy: () => undefined,
      setStack: () => undefined,
      removeStack: () => undefined,
      addDispatch: () => undefined,
      removeDispatch: () => undefined,
      setHostGuards: () => undefined,
      addSet: ({ name }) => {
        if (!this.members.has(name)) this.members.set(name, new Set());
      },
      removeSet: (name) => this.members.delete(name),
      addMember: (set, member) => this.members.get(set)?.add(member),
      removeMember: (set, member) => this.members.get(set)?.delete(member),
    },
  });

  setEndpoint(id: string, facts: Facts | undefined): void {
    const endpoint: WorkloadEndpoint | undefined = facts && {
      kind: 'WorkloadEndpoint',
      apiVersion,
      metadata: { name: id, namespace: 'libnetwork', labels: { ...facts.labels } },
      spec: {
        orchestrator: facts.orchestrator ?? 'libnetwork',
        node: facts.node,
        endpoint: id,
        interfaceName: `cali${id}`,
        ipNetworks: facts.addresses.map((one) => parseNet(one)),
        profiles: [...facts.profiles],
        ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
        ...(facts.prefixes && { allowSpoofedSourcePrefixes: facts.prefixes.map(parseCidr) }),
      },
    };
    this.engine.setEndpoint(id, endpoint);
  }

  setProfile(name: string, labels: Labels | undefined, selectors: readonly string[] = []): void {
    const profile: Profile | undefined = labels && {
      kind: 'Profile',
      apiVersion,
      metadata: { name },
      spec: {
        labelsToApply: { ...labels },
        ingress: selectors.map((selector) => ({ action: 'Allow', source: { selector } })),
        egress: [],
      },
    };
    this.engine.setProfile(name, profile);
  }

  /** The members of a selector's set; `undefined` if it is not used. */
  selected(selector: string, family: 4 | 6 = 4): readonly string[] | undefined {
    const set = this.members.get(selectorSet(family, selectorId(parseSelector(selector))));
    return set && [...set].toSorted();
  }
}

const watcher = { labels: {}, profiles: ['watching'], addresses: ['10.9.9.9/32', 'fd09::9/128'] };

test("an own label wins over a Profile's, and that of the first Profile over the next one's", () => {
  const room = new Room();
  const selectors = ["role == 'own'", "role == 'first'", "role == 'second'", 'has(role)'];
  room.setProfile('watching', {}, selectors);
  room.setEndpoint('w', { ...watcher, node: 'here' });
  room.setProfile('one', { role: 'first', only: 'first' });
  room.setProfile('two', { role: 'second', both: 'second' });
  const at = (address: string, labels: Labels, ...profiles: readonly string[]) =>
    room.setEndpoint(address, { labels, profiles, addresses: [`${address}/32`], node: 'there' });
  at('10.0.0.1', { role: 'own' }, 'one', 'two');
  at('10.0.0.2', {}, 'one', 'two');
  at('10.0.0.3', {}, 'two', 'one');
  at('10.0.0.4', { other: 'x' });
  const roles = () => selectors.map((selector) => room.selected(selector)?.join(' '));
  assert.deepEqual(roles(), [
    '10.0.0.1/32',
    '10.0.0.2/32',
    '10.0.0.3/32',
    '10.0.0.1/32 10.0.0.2/32 10.0.0.3/32',
  ]);
  room.setProfile('one', { only: 'first' });
  assert.deepEqual(roles(), [
    '10.0.0.1/32',
    '',
    '10.0.0.2/32 10.0.0.3/32',
    '10.0.0.1/32 10.0.0.2/32 10.0.0.3/32',
  ]);
  room.setProfile('two', undefined);
  at('10.0.0.1', {}, 'one', 'two');
  assert.deepEqual(roles(), ['', '', '', '']);
  room.setEndpoint('w', undefined);
  room.engine.dropIdle();
  assert.equal(room.selected('has(role)'), undefined, 'nobody asks any more');
});

test('prefixes behind an endpoint are members like its addresses, but not places of its ports', () => {
  const room = new Room();
  room.setProfile('watching', {}, ["role == 'vpn'"]);
  const http: Profile = {
    kind: 'Profile',
    apiVersion,
    metadata: { name: 'http' },
    spec: {
      ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: ['http'] } }],
      egress: [],
    },
  };
  room.engine.setProfile('http', http);
  room.setEndpoint('w', { ...watcher, profiles: ['watching', 'http'], node: 'here' });
  const gateway = { labels: { role: 'vpn' }, profiles: [] };
  for (const [node, third] of [
    ['here', 1],
    ['there', 2],
  ] as const) {
    const addresses = [`10.0.${third}.1/32`];
    const prefixes = [`10.66.${third}.0/24`, `10.77.${third}.7/32`];
    room.setEndpoint(`g${third}`, { ...gateway, addresses, prefixes, node });
    const pod = { addresses: [`10.0.${third}.2/32`], prefixes: ['0.0.0.0/0'], node };
    room.setEndpoint(`p${third}`, { ...gateway, ...pod, orchestrator: 'k8s' });
  }
  assert.deepEqual(room.selected("role == 'vpn'"), [
    '10.0.1.1/32',
    '10.0.1.2/32',
    '10.0.2.1/32',
    '10.0.2.2/32',
    '10.66.1.0/24',
    '10.66.2.0/24',
    '10.77.1.7/32',
    '10.77.2.7/32',
  ]);
  const named = [...room.members.values()].flatMap((set) => [...set]);
  assert.ok(named.includes('10.0.2.1/32,tcp:80'), named.join());
  assert.deepEqual(
    named.filter((member) => /^10\.(66|77)\..*tcp/.test(member)),
    [],
  );
  for (const id of ['g1', 'g2', 'p1', 'p2']) room.setEndpoint(id, undefined);
  assert.deepEqual(room.selected("role == 'vpn'"), []);
});

const key = fc.constantFrom('a', 'b', 'c');
const value = fc.constantFrom('', 'x', 'y');
const labels = fc.dictionary(key, value, { noNullPrototype: true, maxKeys: 3 });
const selectors = [
  'all()',
  'has(a)',
  '!has(a)',
  "a == 'x'",
  "a != 'x'",
  "a in {'x', 'y'}",
  "b not in {'x'}",
  "has(a) && b == 'y'",
  "a == 'x' || has(c)",
  "c starts with 'x'",
] as const;
const profileNames = ['p', 'q', 'r'] as const;
const change = fc.oneof(
  fc.record({
    kind: fc.constant('profile' as const),
    name: fc.constantFrom(...profileNames),
    labels: fc.option(labels, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constantFrom('endpoint' as const, 'networks' as const),
    name: fc.constantFrom('e', 'f', 'g'),
    facts: fc.option(
      fc.record({
        labels,
        profiles: fc.uniqueArray(fc.constantFrom(...profileNames), { maxLength: 3 }),
        addresses: fc.uniqueArray(
          fc.constantFrom('10.0.0.1/32', '10.0.0.2/32', 'fd00::1/128', '10.1.0.0/16'),
          { maxLength: 3 },
        ),
        node: fc.constantFrom('here', 'there'),
      }),
      { nil: undefined },
    ),
  }),
  fc.record({ kind: fc.constant('watch' as const), asked: fc.subarray([...selectors]) }),
);

test('after any changes, the members are the networks of the items that the selector matches', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 25 }), (changes) => {
      const room = new Room();
      const profiles = new Map<string, Labels>();
      const owners = new Map<string, Facts>();
      let asked: readonly string[] = selectors;
      const watch = () => room.setProfile('watching', {}, asked);
      watch();
      room.setEndpoint('w', { ...watcher, node: 'here' });
      owners.set('w', { ...watcher, node: 'here' });
      for (const one of changes) {
        if (one.kind === 'watch') {
          asked = one.asked;
          watch();
        } else if (one.kind === 'profile') {
          room.setProfile(one.name, one.labels);
          if (one.labels === undefined) profiles.delete(one.name);
          else profiles.set(one.name, one.labels);
        } else if (one.kind === 'endpoint') {
          room.setEndpoint(one.name, one.facts);
          if (one.facts === undefined) owners.delete(one.name);
          else owners.set(one.name, one.facts);
        } else {
          const id = `GlobalNetworkSet ${one.name}`;
          room.engine.setNetworkSet(
            id,
            one.facts && {
              kind: 'GlobalNetworkSet',
              apiVersion,
              metadata: { name: one.name, labels: { ...one.facts.labels } },
              spec: { nets: [...one.facts.addresses] },
            },
          );
          if (one.facts === undefined) owners.delete(id);
          else owners.set(id, { ...one.facts, profiles: [] });
        }
      }
      for (const selector of selectors) {
        for (const family of [4, 6] as const) {
          const isMatch = ({ labels: own, profiles: names }: Facts) => {
            const inherited = names.toReversed().map((name) => profiles.get(name) ?? {});
            const effective = new Map([...inherited, own].flatMap((one) => Object.entries(one)));
            return matches(parseSelector(selector), effective);
          };
          const nets = [...owners.values()]
            .filter(isMatch)
            .flatMap(({ addresses }) => addresses)
            .filter((one) => one.includes(':') === (family === 6));
          const expected = asked.includes(selector) ? [...new Set(nets)].toSorted() : undefined;
          assert.deepEqual(room.selected(selector, family), expected, `${selector} ${family}`);
          for (const net of ['10.0.0.1/32', '10.1.2.3/32', '10.2.0.0/32', 'fd00::1/128']) {
            const id = selectorId(parseSelector(selector));
            if (net.includes(':') !== (family === 6) || expected === undefined) continue;
            const isHeld =
              expected.includes(net) || (net === '10.1.2.3/32' && expected.includes('10.1.0.0/16'));
            assert.equal(
              room.engine.selectorContains(id, parseCidr(net)),
              isHeld,
              `${selector} ${net}`,
            );
          }
        }
      }
    }),
    { numRuns: 150 },
  );
});
