import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { storedValues, toText } from './kinds.fixture.ts';
import { resourceKind } from '../user-input.ts';
import {
  entryKinds,
  entryTypeOf,
  parseKey,
  resourceKinds,
  resourceTypeOf,
  type EntryKind,
} from './index.ts';

/** Decodes and encodes a value; reading the result must give the same value. */
function rewritten<K extends EntryKind>(kind: K, text: string): string {
  const { decode, encode } = entryTypeOf[kind];
  const value = decode('/key', text);
  const written = encode(value);
  assert.deepEqual(decode('/key', written), value);
  return written;
}

describe('a stored value is written back unchanged, with integers up to 2^64 and unknown fields', () => {
  for (const kind of entryKinds) {
    test(kind, () => {
      fc.assert(
        fc.property(storedValues(kind).map(toText), (text) => {
          assert.equal(rewritten(kind, text), text);
        }),
        { numRuns: 50 },
      );
    });
  }
});

/** As Calico writes them: keys and values of libcalico-go (etcd), byte for byte. */
const samples: readonly {
  readonly kind: EntryKind;
  readonly id: string;
  readonly key: string;
  readonly text: string;
}[] = [
  {
    kind: 'IPPool',
    id: 'net1',
    key: '/calico/resources/v3/projectcalico.org/ippools/net1',
    text: '{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"net1","uid":"0f0c5a4e-9a0e-4a41-8a57-0c6b2d8b0b52","creationTimestamp":"2026-08-22T10:00:00Z","labels":{"k":"v"},"annotations":{"org.projectcalico.label.network.ID":"8c1f"}},"spec":{"cidr":"10.65.0.0/16","vxlanMode":"Never","ipipMode":"Never","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}}',
  },
  {
    kind: 'Profile',
    id: 'net1',
    key: '/calico/resources/v3/projectcalico.org/profiles/net1',
    text: '{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"net1","creationTimestamp":null},"spec":{"ingress":[{"action":"Allow","source":{"selector":"has(net1)"},"destination":{}}],"egress":[{"action":"Allow","source":{},"destination":{}}],"labelsToApply":{"net1":""}}}',
  },
  {
    kind: 'WorkloadEndpoint',
    id: 'libnetwork/host--a-libnetwork-libnetwork-4e0f3c9a',
    key: '/calico/resources/v3/projectcalico.org/workloadendpoints/libnetwork/host--a-libnetwork-libnetwork-4e0f3c9a',
    text: '{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"host--a-libnetwork-libnetwork-4e0f3c9a","namespace":"libnetwork","uid":"6b1f5a4e-9a0e-4a41-8a57-0c6b2d8b0b52","creationTimestamp":"2026-08-22T10:00:00Z","labels":{"projectcalico.org/namespace":"libnetwork","projectcalico.org/orchestrator":"libnetwork","role":"web"}},"spec":{"orchestrator":"libnetwork","workload":"libnetwork","node":"host-a","endpoint":"4e0f3c9a","ipNetworks":["10.65.0.1/32"],"profiles":["net1"],"interfaceName":"cali4e0f3c9a1b2","mac":"ee:ee:ee:ee:ee:ee"}}',
  },
  {
    kind: 'Node',
    id: 'host-a.example.com',
    key: '/calico/resources/v3/projectcalico.org/nodes/host-a.example.com',
    text: '{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"host-a.example.com","creationTimestamp":null},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24"}},"status":{}}',
  },
  {
    kind: 'ClusterInformation',
    id: 'default',
    key: '/calico/resources/v3/projectcalico.org/clusterinformations/default',
    text: '{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"5e8d0a1c-7c0b-4a3f-9a34-3d0f1f5a9a11","creationTimestamp":"2026-08-22T10:00:00Z"},"spec":{"clusterGUID":"b3c64d1c36a54c7c9ad5b0a6d1c2e3f4","clusterType":"docker","datastoreReady":true}}',
  },
  {
    kind: 'Tier',
    id: 'default',
    key: '/calico/resources/v3/projectcalico.org/tiers/default',
    text: '{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","creationTimestamp":"2026-08-22T10:00:00Z"},"spec":{"order":1000000,"defaultAction":"Deny"}}',
  },
  {
    kind: 'NetworkSet',
    id: 'default/bad',
    key: '/calico/resources/v3/projectcalico.org/networksets/default/bad',
    text: '{"kind":"NetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad","namespace":"default","creationTimestamp":"2026-08-22T10:00:00Z","labels":{"set":"bad"}},"spec":{"nets":["198.51.100.7","10.1.2.3/16"]}}',
  },
  {
    kind: 'GlobalNetworkSet',
    id: 'bad',
    key: '/calico/resources/v3/projectcalico.org/globalnetworksets/bad',
    text: '{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad","creationTimestamp":"2026-08-22T10:00:00Z","labels":{"set":"bad"}},"spec":{"nets":["198.51.100.0/24","2001:db8::/32"]}}',
  },
  {
    kind: 'OtherResource',
    id: 'ipamconfigurations/default',
    key: '/calico/resources/v3/projectcalico.org/ipamconfigurations/default',
    text: '{"kind":"IPAMConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"autoAllocateBlocks":true}}',
  },
  {
    kind: 'NetworkPolicy',
    id: 'shop/web',
    key: '/calico/resources/v3/projectcalico.org/networkpolicies/shop/web',
    text: '{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web","namespace":"shop","creationTimestamp":"2026-08-22T10:00:00Z","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\\"name\\":\\"web\\"}"}},"spec":{"tier":"default","order":100,"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"role == \\"client\\""},"destination":{"ports":[80,"8000:8010"]}}],"selector":"role == \\"web\\"","types":["Ingress"]}}',
  },
  {
    kind: 'StagedGlobalNetworkPolicy',
    id: 'web',
    key: '/calico/resources/v3/projectcalico.org/stagedglobalnetworkpolicies/web',
    text: '{"kind":"StagedGlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web"},"spec":{"stagedAction":"Set","tier":"default","order":0.5,"egress":[{"action":"Pass"}],"selector":"all()","types":["Egress"],"preDNAT":true,"applyOnForward":true,"namespaceSelector":"all()"}}',
  },
  {
    kind: 'GlobalNetworkPolicy',
    id: 'default.deny',
    key: '/calico/resources/v3/projectcalico.org/globalnetworkpolicies/default.deny',
    text: '{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.deny"},"spec":{"tier":"default","selector":"all()","types":["Ingress"]}}',
  },
  {
    kind: 'Block4',
    id: '10.65.0.0/30',
    key: '/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30',
    text: '{"cidr":"10.65.0.0/30","affinity":"host:host-a","affinity_claim_time":"2026-08-22T10:00:00Z","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":null,"sequenceNumber":1787392800123456789,"sequenceNumberForAllocation":{},"deleted":false}',
  },
  {
    kind: 'Block4',
    id: '10.65.0.0/30',
    key: '/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30',
    text: '{"cidr":"10.65.0.0/30","affinity":null,"allocations":[null,0,null,null],"unallocated":[2,3,0],"attributes":[{"handle_id":"h2","secondary":{"node":"host-a"}}],"sequenceNumber":1787392800123456792,"sequenceNumberForAllocation":{"1":1787392800123456790},"deleted":false}',
  },
  {
    kind: 'Block6',
    id: 'fd80:24e2:f998:72d6::/128',
    key: '/calico/ipam/v2/assignment/ipv6/block/fd80:24e2:f998:72d6::-128',
    text: '{"cidr":"fd80:24e2:f998:72d6::/128","affinity":"host:host-a","allocations":[null],"unallocated":[0],"attributes":null,"sequenceNumber":1787392800123456789,"sequenceNumberForAllocation":{},"deleted":false}',
  },
  {
    kind: 'Affinity4',
    id: 'host-a/10.65.0.0/26',
    key: '/calico/ipam/v2/host/host-a/ipv4/block/10.65.0.0-26',
    text: '{"state":"confirmed","deleted":false}',
  },
  {
    kind: 'Affinity6',
    id: 'host-a/2001:db8::/122',
    key: '/calico/ipam/v2/host/host-a/ipv6/block/2001:db8::-122',
    text: '{"state":"pendingDeletion","deleted":false}',
  },
  {
    kind: 'Handle',
    id: 'k8s-pod-network.4e0f',
    key: '/calico/ipam/v2/handle/k8s-pod-network.4e0f',
    text: '{"block":{"10.65.0.0/26":1,"fd80:24e2:f998:72d6::/122":1},"deleted":false}',
  },
  {
    kind: 'IpamConfig',
    id: 'config',
    key: '/calico/ipam/v2/config',
    text: '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":20,"ipCooldownSeconds":30}',
  },
];

describe('values written by Calico are found at their keys and written back byte for byte', () => {
  for (const { kind, id, key, text } of samples) {
    test(`${kind} ${id}, ${text.length} bytes`, () => {
      assert.equal(entryTypeOf[kind].key(id), key);
      assert.deepEqual(parseKey(key), { kind, id });
      const kinds = entryKinds.filter((one) => entryTypeOf[one].idOf(key) !== undefined);
      assert.deepEqual(kinds, [kind], 'a key is of one kind');
      assert.equal(rewritten(kind, text), text);
    });
  }
});

test('a kind is found by its name in any case, singular and plural, and by its short names', () => {
  for (const kind of resourceKinds) {
    const { plural, aliases } = resourceTypeOf[kind];
    const names = [kind, ...aliases];
    const withS = names.filter((name) => !/s$/i.test(name)).map((name) => `${name}s`);
    for (const word of [...names, plural, ...withS]) {
      assert.equal(resourceKind(word), kind);
      assert.equal(resourceKind(word.toUpperCase()), kind);
    }
  }
});

test('keys of other kinds are ignored', () => {
  for (const key of [
    '/calico/resources/v3/projectcalico.org/felixconfigurations',
    '/calico/resources/v3/projectcalico.org/workloadendpoints/no-namespace',
    '/calico/resources/v3/projectcalico.org/ippools/a/b',
    '/calico/ipam/v2/host/host-a',
    '/calico/ipam/v2/virtual/lb/ipv4/block/10.0.0.0-26',
    '/calico/ipam/v2/handle/a/b',
    '/calico/felix/v2/no-region/host/host-a/workload/libnetwork/w/endpoint/e',
  ]) {
    assert.equal(parseKey(key), undefined, key);
  }
});

test('null in a map is its empty value, as Go reads it; null for a field means absent', () => {
  const tags = entryTypeOf.Profile.decode(
    '/key',
    '{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","labels":null},"spec":{"labelsToApply":{"t":null},"ingress":null}}',
  );
  assert.deepEqual(tags.spec, { labelsToApply: { t: '' } });
  assert.deepEqual(tags.metadata, { name: 'a' });
  const handle = entryTypeOf.Handle.decode('/key', '{"block":{"10.0.0.0/26":null}}');
  assert.deepEqual(handle, { block: { '10.0.0.0/26': 0 } });
});

test('a number that does not fit a double is changed digit by digit', () => {
  const text =
    '{"cidr":"10.65.0.0/30","allocations":[null,null,null,null],"sequenceNumber":18446744073709551614}';
  const value = entryTypeOf.Block4.decode('/key', text);
  const next = { ...value, sequenceNumber: (value.sequenceNumber ?? 0n) + 1n };
  assert.match(entryTypeOf.Block4.encode(next), /"sequenceNumber":18446744073709551615}$/);
});
