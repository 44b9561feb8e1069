import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress, type IpFamily } from '../ip/address.ts';
import { hostCidr, parseCidr } from '../ip/cidr.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { namedPortSet } from '../ruleset/names.ts';
import { compileProfile, namedPortsOf } from './compile/compiled-policy.ts';
import { PolicyEngine } from './policy-engine.ts';

const apiVersion = 'projectcalico.org/v3';
const names = ['http', 'dns', 'none'] as const;
const families = [4, 6] as const;

type Port = NonNullable<WorkloadEndpoint['spec']['ports']>[number];
interface Facts {
  readonly addresses: readonly string[];
  readonly ports: readonly Port[];
  readonly node: string;
}

function endpoint(id: string, { addresses, ports, node }: Facts): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: { name: id, namespace: 'libnetwork' },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: id,
      ipNetworks: addresses.map(parseCidr),
      profiles: ['watching'],
      interfaceName: `cali${id}`,
      ports: [...ports],
    },
  };
}

function watching(asked: readonly string[]) {
  const rules = asked.map((name) => ({
    action: 'Allow' as const,
    protocol: 'TCP' as const,
    destination: { ports: [name] },
  }));
  return {
    kind: 'Profile' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 'watching' },
    spec: { ingress: rules, egress: [] },
  };
}

/** An engine, and its desired sets with their members. */
class Room {
  readonly sets = new Map<string, Set<string>>();
  readonly engine: PolicyEngine;

  constructor() {
    const nothing = () => undefined;
    this.engine = new PolicyEngine({
      node: 'here',
      families,
      output: {
        setPolicy: (family, { ingress }) => {
          for (const { destination } of ingress) {
            for (const { id } of destination.namedPorts) {
              assert.ok(this.sets.has(namedPortSet(family, id)), 'a rule looks into no set');
            }
          }
        },
        removePolicy: nothing,
        setStack: nothing,
        removeStack: nothing,
        addDispatch: nothing,
        removeDispatch: nothing,
        setHostGuards: nothing,
        addSet: ({ name, type, family }) => {
          if (type !== 'address,port') return;
          assert.equal(name.startsWith(`cali${family}0n:`), true);
          this.sets.set(name, new Set());
        },
        removeSet: (name) => this.sets.delete(name),
        addMember: (set, member) => {
          const members = this.sets.get(set) ?? assert.fail(`member of no set: ${set}`);
          assert.ok(!members.has(member), 'told twice');
          members.add(member);
        },
        removeMember: (set, member) => {
          assert.ok(this.sets.get(set)?.delete(member), 'told of what was not');
        },
      },
    });
  }

  members(name: string, family: IpFamily): readonly string[] | undefined {
    const profile = compileProfile('watching', watching([name]));
    const set = this.sets.get(namedPortSet(family, namedPortsOf(profile)[0]?.id ?? ''));
    return set && [...set].toSorted();
  }
}

const port: fc.Arbitrary<Port> = fc.record({
  name: fc.constantFrom<string>('http', 'dns', ''),
  protocol: fc.constantFrom<string | number>('TCP', 'udp', 132, 'UDPLite', 1),
  port: fc.constantFrom(0, 53, 80, 65_535, 70_000),
});
const change = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      id: fc.constantFrom('e', 'f', 'g'),
      facts: fc.option(
        fc.record({
          addresses: fc.uniqueArray(
            fc.constantFrom('10.0.0.1/32', '10.0.0.2/32', 'fd00::1/128', '10.1.0.0/16'),
            { maxLength: 3 },
          ),
          ports: fc.array(port, { maxLength: 3 }),
          node: fc.constantFrom('here', 'there'),
        }),
        { nil: undefined },
      ),
    }),
  },
  fc.record({ asked: fc.subarray([...names]) }),
);
const protocols: readonly (readonly [string, number])[] = [
  ['tcp', 6],
  ['udp', 17],
  ['sctp', 132],
];

test('after any changes, the members of a port name are the addresses and ports of the endpoints that have it', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 25 }), (changes) => {
      const room = new Room();
      const owners = new Map<string, Facts>();
      let asked: readonly string[] = names;
      const watcher = { addresses: ['10.9.9.9/32', 'fd09::9/128'], ports: [], node: 'here' };
      room.engine.setProfile('watching', watching(asked));
      room.engine.setEndpoint('w', endpoint('w', watcher));
      for (const one of changes) {
        if ('asked' in one) {
          asked = one.asked;
          room.engine.setProfile('watching', watching(asked));
          continue;
        }
        if (one.facts === undefined) owners.delete(one.id);
        else owners.set(one.id, one.facts);
        room.engine.setEndpoint(one.id, one.facts && endpoint(one.id, one.facts));
      }
      for (const name of names) {
        for (const family of families) {
          const members = [...owners.values()].flatMap(({ addresses, ports }) =>
            ports.flatMap((of) => {
              const known = protocols.find((pair) =>
                pair.map(String).includes(String(of.protocol).toLowerCase()),
              )?.[0];
              const isReal = of.name === name && of.port > 0 && of.port < 65_536;
              if (!isReal || known === undefined) return [];
              return addresses
                .filter((at) => at.includes(':') === (family === 6) && at !== '10.1.0.0/16')
                .map((at) => `${at},${known}:${of.port}`);
            }),
          );
          const expected = asked.includes(name) ? [...new Set(members)].toSorted() : undefined;
          assert.deepEqual(room.members(name, family), expected, `${name} ${family}`);
          for (const at of ['10.0.0.1', 'fd00::1'].map(parseAddress)) {
            if (at.includes(':') !== (family === 6)) continue;
            for (const [word, protocol] of protocols) {
              assert.equal(
                room.engine.hasNamedPort(name, hostCidr(at), { protocol, port: 80 }),
                (asked.includes(name) ? members : []).includes(`${hostCidr(at)},${word}:80`),
              );
            }
          }
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('endpoints without named ports, or with names that no rule uses, cost nothing', () => {
  const room = new Room();
  room.engine.setProfile('watching', watching(['http']));
  room.engine.setEndpoint(
    'w',
    endpoint('w', { addresses: ['10.9.9.9/32'], ports: [], node: 'here' }),
  );
  const before = room.engine.work.membersEmitted;
  const ports = [{ name: 'dns', protocol: 'UDP', port: 53 }];
  room.engine.setEndpoint('e', endpoint('e', { addresses: ['10.0.0.1/32'], ports, node: 'there' }));
  assert.equal(room.engine.work.membersEmitted, before);
});
