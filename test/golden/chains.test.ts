import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderRule } from '../../src/render/iptables/rule-text.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import type { Profile } from '../../src/model/kinds/profile.ts';
import type { WorkloadEndpoint } from '../../src/model/kinds/workload-endpoint.ts';
import { HostPortChains } from '../../src/render/iptables/host-port-chains.ts';
import { IptablesPolicies } from '../../src/render/iptables/policies.ts';
import { PolicyEngine } from '../../src/profiles/policy-engine.ts';
import { parseRuleExpression } from '../../src/cli/profiles/rule-expression.ts';
import { renderHostRules } from '../../src/render/iptables/host-rules.ts';
import { hostRules } from '../../src/ruleset/host-rules.ts';
import type { Rule } from '../../src/render/iptables/rule.ts';
import { golden } from './golden.ts';

/** The rendered rules of typical configurations, as text. */

function chainText(name: string, rules: readonly Rule[]): string {
  return `${name}\n${rules.map((rule) => `    ${renderRule(rule)}\n`).join('')}`;
}

/** Checks that every chain and set that rules refer to exists, or is one that no policy changes. */
function leadsSomewhere(
  texts: readonly string[],
  made: { readonly chains: ReadonlySet<string>; readonly sets: ReadonlySet<string> },
): void {
  const options = { endpointToHostAction: 'Return', guardsForwarding: true } as const;
  const fixed = renderHostRules(hostRules(6, options), { family: 6, denyAction: 'drop' }).flatMap(
    ({ chains }) => chains.map(({ name }) => name),
  );
  const chains = made.chains.union(new Set(fixed));
  for (const text of texts) {
    for (const [, target = ''] of text.matchAll(/--(?:jump|goto) (cali-\S+)/g)) {
      assert.ok(chains.has(target), `no chain ${target}`);
    }
    for (const [, set = ''] of text.matchAll(/--(?:match|add)-set (\S+)/g)) {
      const isOfPools = set.endsWith('-ipam-pools');
      assert.ok(isOfPools || made.sets.has(set), `no set ${set}`);
    }
  }
}

/** Returns the output of the policy engine for Profiles and local endpoints: chains, then sets with their members. */
function outputFor(options: {
  readonly family: IpFamily;
  readonly profiles: readonly Profile[];
  readonly endpoints: readonly WorkloadEndpoint[];
}): string {
  const chains = new Map<string, string>();
  const sets = new Map<string, Set<string>>();
  const families = [options.family];
  const output = new IptablesPolicies(families, {
    setChain: (_family, { name, rules }) => chains.set(name, chainText(name, rules)),
    removeChain: (_family, name) => chains.delete(name),
    addSet: ({ name }) => sets.set(name, sets.get(name) ?? new Set()),
    removeSet: (name) => sets.delete(name),
    addMember: (set, member) => sets.get(set)?.add(member),
    removeMember: (set, member) => sets.get(set)?.delete(member),
  });
  output.start();
  const engine = new PolicyEngine({ node: 'host-a', families, output });
  for (const profile of options.profiles) engine.setProfile(profile.metadata.name, profile);
  for (const endpoint of options.endpoints) engine.setEndpoint(endpoint.metadata.name, endpoint);
  engine.beforeTables();
  engine.moveEndpoints();
  leadsSomewhere([...chains.values()], {
    chains: new Set(chains.keys()),
    sets: new Set(sets.keys()),
  });
  const byName = <T>(map: ReadonlyMap<string, T>) =>
    [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [
    ...byName(chains).map(([, text]) => text),
    ...byName(sets).map(([name, members]) => `set ${name}: ${[...members].toSorted().join(' ')}\n`),
  ].join('');
}

function profile(
  name: string,
  ingress: readonly string[],
  egress: readonly string[] = ['allow'],
): Profile {
  const rules = (words: readonly string[]): PolicyRule[] =>
    words.map((text) => parseRuleExpression(text.split(' ')));
  return {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { labelsToApply: { [name]: '' }, ingress: rules(ingress), egress: rules(egress) },
  };
}

function endpoint(name: string, network: string, profiles: readonly string[]): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, namespace: 'libnetwork' },
    spec: {
      orchestrator: 'libnetwork',
      node: 'host-a',
      endpoint: name,
      ipNetworks: [parseCidr(network)],
      profiles: [...profiles],
      interfaceName: `cali${name}`,
    },
  };
}

const web = profile('web', ['allow from tag web']);

test("two containers with a network's default Profile", () => {
  const endpoints = [
    endpoint('1', '10.65.0.1/32', ['web']),
    endpoint('2', '10.65.0.2/32', ['web']),
  ];
  golden('default-profile', outputFor({ family: 4, profiles: [web], endpoints }));
});

test('a rule with tag and ports, a deny rule, and two Profiles', () => {
  const db = profile('db', [
    'deny tcp from cidr 10.9.0.0/16 to ports 5432',
    'allow tcp from tag web to ports 5432,6000:6010',
  ]);
  const endpoints = [endpoint('1', '10.65.0.1/32', ['db', 'web'])];
  golden('two-profiles', outputFor({ family: 4, profiles: [web, db], endpoints }));
});

test('more networks and ports than one rule can hold', () => {
  const ports = Array.from({ length: 20 }, (_, index) => 8000 + index).join(',');
  const many = profile('many', [`allow tcp from cidr 10.0.0.0/8,192.0.2.0/24 to ports ${ports}`]);
  const endpoints = [endpoint('1', '10.65.0.1/32', ['many'])];
  golden('blocks', outputFor({ family: 4, profiles: [many], endpoints }));
});

test('IPv6', () => {
  const endpoints = [endpoint('1', 'fd00::1/128', ['web'])];
  golden('ipv6', outputFor({ family: 6, profiles: [web], endpoints }));
});

test('quarantine, and a missing Profile', () => {
  const endpoints = [endpoint('1', '10.65.0.1/32', []), endpoint('2', '10.65.0.2/32', ['gone'])];
  golden('quarantine', outputFor({ family: 4, profiles: [], endpoints }));
});

test('published ports: on all addresses, on one, by UDP, left to the rules, IPv6', () => {
  const chains = new Map<string, string>();
  const made = new HostPortChains({
    setChain: ({ name, rules }) => chains.set(name, chainText(name, rules)),
    removeChain: (name) => chains.delete(name),
  });
  made.start();
  const app = { address: parseAddress('10.65.0.1'), port: 80, isAdmitted: true };
  const any = parseAddress('0.0.0.0');
  made.change(
    [],
    [
      { ...app, protocol: 'TCP', hostIp: any, hostPort: 8080 },
      { ...app, protocol: 'TCP', hostIp: parseAddress('127.0.0.1'), hostPort: 8081 },
      { ...app, protocol: 'UDP', hostIp: any, hostPort: 53 },
      { ...app, protocol: 'TCP', hostIp: any, hostPort: 20000, isAdmitted: false },
      {
        ...app,
        protocol: 'SCTP',
        hostIp: parseAddress('::'),
        hostPort: 443,
        address: parseAddress('fd00::1'),
      },
    ],
  );
  golden(
    'host-ports',
    [...chains]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([, text]) => text)
      .join(''),
  );
});
