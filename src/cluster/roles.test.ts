import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { prefixReservation } from '../model/kinds/ip-reservation.ts';
import { subnetPoolName } from '../ipam/pools/subnet-pools.ts';
import { isResourceName } from '../model/fields.ts';
import { entryKinds, entryTypeOf, type EntryKind } from '../model/kinds/index.ts';
import { lastReportId, liveReportId } from '../model/kinds/node-report.ts';
import { endpointName } from '../model/kinds/workload-endpoint.ts';
import {
  adminUser,
  endpointsInNamespace,
  etcdUserOf,
  isOfEndpoints,
  movePermissions,
  nodePermissions,
  permits,
} from './roles.ts';

/** What nodes may write: records of one node only that node, of another kind every node, or none. */
type Writers = 'the node' | 'every node' | 'no node';

const sharer: Writers = 'every node';

/** Ids that a node named in them would use, and who may write them. */
const expected: Readonly<
  Partial<Record<EntryKind, readonly (readonly [id: (node: string) => string, writers: Writers])[]>>
> = {
  IPPool: [
    [() => subnetPoolName('10.99.0.0/16'), sharer],
    [() => 'default-ipv4-ippool', 'no node'],
    [() => 'mine', 'no node'],
  ],
  IPReservation: [
    [() => prefixReservation, sharer],
    [() => `${prefixReservation}-2`, 'no node'],
  ],
  Profile: [[() => 'web', sharer]],
  NetworkSet: [[() => 'default/set', 'no node']],
  GlobalNetworkSet: [[() => 'set', 'no node']],
  WorkloadEndpoint: [
    [(node) => `libnetwork/${endpointName(node, 'e1')}`, 'the node'],
    [(node) => `default/${endpointName(node, 'e1')}`, 'no node'],
  ],
  Node: [[(node) => node, 'the node']],
  Tier: [[() => 'default', 'no node']],
  NetworkPolicy: [[() => 'default/web', 'no node']],
  GlobalNetworkPolicy: [[() => 'web', 'no node']],
  StagedNetworkPolicy: [[() => 'default/web', 'no node']],
  StagedGlobalNetworkPolicy: [[() => 'web', 'no node']],
  HostEndpoint: [[(node) => `${node}-eth0`, 'no node']],
  BGPConfiguration: [[(node) => `node.${node}`, 'no node']],
  BGPPeer: [[(node) => `${node}-peer`, 'no node']],
  BGPFilter: [[() => 'filter', 'no node']],
  CalicoNodeStatus: [[() => 'status', sharer]],
  FelixConfiguration: [[(node) => `node.${node}`, 'no node']],
  ClusterInformation: [[() => 'default', 'no node']],
  OtherResource: [[() => 'ipamconfigurations/one', 'no node']],
  Block4: [[() => '10.65.0.0/26', sharer]],
  Block6: [[() => 'fd80::/122', sharer]],
  Affinity4: [[(node) => `${node}/10.65.0.0/26`, sharer]],
  Affinity6: [[(node) => `${node}/fd80::/122`, sharer]],
  Handle: [[() => 'docker.host-a.10-65-0-1', sharer]],
  IpamConfig: [[() => 'config', 'no node']],
  DockerNetwork: [[(node) => `${node}/0123456789ab`, 'the node']],
  DockerPool: [[(node) => `${node}/nonce`, 'the node']],
  NodeReport: [
    [liveReportId, 'the node'],
    [lastReportId, 'the node'],
  ],
  NetworkDefinition: [[() => 'web', sharer]],
  NetworkReport: [[(node) => `${node}/web`, 'the node']],
};

/** Names that begin like one another, also after the escaping of endpoint names and between their fixed parts. */
const nodeName = fc
  .array(fc.constantFrom('a', 'b', '-', '--', '.', 'libnetwork', '-libnetwork-libnetwork-', '0'), {
    minLength: 1,
    maxLength: 6,
  })
  .map((parts) => parts.join(''))
  .filter(isResourceName);

test('a node may write its own records and the shared ones, and no record of another node', () => {
  fc.assert(
    fc.property(nodeName, nodeName, (node, other) => {
      const permissions = nodePermissions(node);
      for (const kind of entryKinds) {
        for (const [idOf, writers] of expected[kind] ?? []) {
          const mayWrite = (of: string) =>
            permits(permissions, 'write', entryTypeOf[kind].key(idOf(of)));
          assert.equal(mayWrite(node), writers !== 'no node', `${kind} ${idOf(node)}`);
          if (other === node) continue;
          assert.equal(mayWrite(other), writers === 'every node', `${kind} ${idOf(other)}`);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test('a node reads all data of Calico and the state of the cluster, and no token', () => {
  const permissions = nodePermissions('a');
  for (const kind of entryKinds) assert.ok(permits(permissions, 'read', entryTypeOf[kind].prefix));
  const clusterRoot = '/calico-cnm/cluster/';
  const canRead = (name: string) => permits(permissions, 'read', clusterRoot + name);
  const canWrite = (name: string) => permits(permissions, 'write', clusterRoot + name);
  assert.deepEqual(
    ['hosts/b', 'host-reports/b', 'settings', 'tokens/0', 'settings2', 'keeper'].map(canRead),
    [true, true, true, false, false, false],
  );
  assert.deepEqual(
    ['host-reports/a', 'host-reports/ab', 'hosts/a', 'settings', 'tokens/0'].map(canWrite),
    [true, false, false, false, false],
  );
});

test('a range is granted once, because etcd keeps one permission per range of a role', () => {
  const ranges = nodePermissions('a').map((one) => JSON.stringify({ ...one, access: '' }));
  assert.equal(new Set(ranges).size, ranges.length);
});

test('the users of two nodes differ, and none is the administrator', () => {
  const long = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 50, maxLength: 70 });
  fc.assert(
    fc.property(fc.oneof(nodeName, long), fc.oneof(nodeName, long), (a, b) => {
      assert.equal(etcdUserOf(a) === etcdUserOf(b), a === b);
      assert.ok(etcdUserOf(a).length <= 64);
      assert.notEqual(etcdUserOf(a), adminUser);
    }),
  );
  assert.equal(etcdUserOf('root'), 'node.root');
});

test('while a host moves its datastore, it may write all data of Calico, and still no record of the cluster', () => {
  const permissions = movePermissions('a');
  for (const access of ['read', 'write'] as const) {
    assert.ok(permits(permissions, access, entryTypeOf.Tier.key('default')));
    assert.ok(permits(permissions, access, '/calico-cnm/moves/a/1'));
    assert.ok(!permits(permissions, access, '/calico-cnm/moves/ab/1'));
    assert.ok(!permits(permissions, access, '/calico-cnm/cluster/hosts/a'));
  }
});

test('the endpoints of a node in any namespace are recognized, and those of no other node', () => {
  fc.assert(
    fc.property(nodeName, nodeName, fc.stringMatching(/^[a-z0-9]{1,8}$/), (node, other, name) => {
      const { prefix } = endpointsInNamespace(node, name);
      assert.ok(isOfEndpoints(node, prefix));
      assert.ok(
        entryTypeOf.WorkloadEndpoint.key(`${name}/${endpointName(node, 'e')}`).startsWith(prefix),
      );
      assert.equal(isOfEndpoints(other, prefix), other === node);
      assert.ok(!isOfEndpoints(node, `${prefix}e1`));
    }),
  );
  assert.ok(!isOfEndpoints('a', entryTypeOf.WorkloadEndpoint.prefix));
  assert.ok(!isOfEndpoints('a', entryTypeOf.Node.key('a')));
});
