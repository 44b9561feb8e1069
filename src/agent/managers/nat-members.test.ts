import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { NatMembers } from './nat-members.ts';

const apiVersion = 'projectcalico.org/v3';

function withMembers(families: readonly (4 | 6)[]) {
  const sets = new Map<string, Set<string>>();
  const nat = new NatMembers({
    node: 'here',
    families,
    kernel: {
      sets: {
        setDesired: ({ name, type }) => {
          assert.equal(type, 'net');
          sets.set(name, new Set());
        },
        addMember: (set, member) => sets.get(set)?.add(member) ?? assert.fail(`no set ${set}`),
        removeMember: (set, member) =>
          sets.get(set)?.delete(member) ?? assert.fail(`no set ${set}`),
      },
    },
  });
  nat.start();
  const filled = () =>
    Object.fromEntries(
      [...sets]
        .filter(([, members]) => members.size > 0)
        .map(([name, members]) => [name, [...members].toSorted()]),
    );
  return { nat, sets, filled };
}

function pool(cidr: string, natOutgoing?: boolean): IpPool {
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name: cidr },
    spec: { cidr: parseCidr(cidr), ...(natOutgoing === undefined ? {} : { natOutgoing }) },
  };
}

function endpoint(wish: string | undefined, ...networks: readonly string[]): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: 'e',
      ...(wish === undefined ? {} : { annotations: { [endpointAnnotations.natOutgoing]: wish } }),
    },
    spec: {
      orchestrator: 'libnetwork',
      node: 'here',
      endpoint: 'e',
      interfaceName: 'cali1',
      ipNetworks: networks.map((one) => parseNet(one)),
    },
  };
}

test('pools with natOutgoing are masqueraded, no pool is a masquerade destination, and endpoints may override it', () => {
  const { nat, sets, filled } = withMembers([4, 6]);
  assert.equal(sets.size, 8, 'the sets are there before any pool: rules name them');
  nat.setPool('with', pool('10.1.0.0/16', true));
  nat.setPool('without', pool('10.2.0.0/16', false));
  nat.setPool('silent', pool('10.3.0.0/16'));
  nat.setPool('six', pool('fd00::/48', true));
  nat.setEndpoint('yes', endpoint('true', '10.2.0.1/32', 'fd00::1/128'));
  nat.setEndpoint('no', endpoint('false', '10.1.0.1/32'));
  nat.setEndpoint('as the pool says', endpoint(undefined, '10.1.0.2/32'));
  assert.deepEqual(filled(), {
    'cali40all-ipam-pools': ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16'],
    'cali40masq-ipam-pools': ['10.1.0.0/16'],
    'cali60all-ipam-pools': ['fd00::/48'],
    'cali60masq-ipam-pools': ['fd00::/48'],
    [endpointSets(4)[0]]: ['10.2.0.1/32'],
    [endpointSets(4)[1]]: ['10.1.0.1/32'],
    [endpointSets(6)[0]]: ['fd00::1/128'],
  });
  nat.setPool('with', pool('10.1.0.0/16', false));
  nat.setEndpoint('yes', endpoint('false', '10.2.0.1/32'));
  nat.setEndpoint('no', undefined);
  nat.setPool('six', undefined);
  const [, plain] = endpointSets(4);
  assert.deepEqual(filled(), {
    'cali40all-ipam-pools': ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16'],
    [plain]: ['10.2.0.1/32'],
  });
});

test('a family that this host does not use has no sets and no members', () => {
  const { nat, sets, filled } = withMembers([4]);
  assert.equal(sets.size, 4);
  nat.setPool('six', pool('fd00::/48', true));
  nat.setEndpoint('yes', endpoint('true', 'fd00::1/128', '10.0.0.1/32'));
  assert.deepEqual(filled(), { [endpointSets(4)[0]]: ['10.0.0.1/32'] });
  nat.setPool('six', pool('10.1.0.0/16', true));
  nat.setPool('six', pool('fd00::/48', true));
  assert.deepEqual(Object.keys(filled()).length, 1);
});

/** The sets that static rules match: those masqueraded, and those that are not. */
function endpointSets(family: 4 | 6): readonly [string, string] {
  return [`cali${family}0masq-endpoints`, `cali${family}0no-masq-endpoints`];
}
