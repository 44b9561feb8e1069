import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Draft } from '../../src/datastore/writer.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { cidrOf, parseNet, splitCidr, type Cidr } from '../../src/ip/cidr.ts';
import { endpointAnnotations } from '../../src/model/kinds/workload-endpoint.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { endpoint, endpointId, here, KernelAgent, pool, profile } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { unlessLong } from '../lab/long.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

/**
 * Random objects, most of them odd, come and go in a running agent on the real kernel. Whatever they are, after
 * each batch a container gets its policy at once and a change of policy takes effect; and when they are gone,
 * nothing of them is left.
 */

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const sh = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' });
const batches = unlessLong() === false ? 400 : 25;
const perBatch = 25;

const oddNetworks = [
  '0.0.0.0/0',
  '0.0.0.0/1',
  '128.0.0.0/1',
  '127.0.0.0/8',
  '127.0.0.1/32',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '0.0.0.0/32',
  '169.254.0.0/16',
  '192.0.2.0/24',
  '192.0.2.1/32',
  '192.0.2.2/32',
  '192.0.2.255/32',
  '10.0.0.0/8',
  '::/0',
  '::/1',
  '8000::/1',
  '::/128',
  '::1/128',
  'fe80::/10',
  'fe80::1/128',
  'ff00::/8',
  'ff02::1/128',
  '::ffff:10.1.2.3/128',
  '2001:db8::/32',
].map(parseNet);
const anyNetwork = fc
  .tuple(fc.ipV4(), fc.constantFrom(1, 7, 8, 15, 16, 24, 31, 32))
  .map(([address, length]) => cidrOf(parseAddress(address), length));
const network: fc.Arbitrary<Cidr> = fc.oneof(fc.constantFrom(...oddNetworks), anyNetwork);
const host = network.map((net) => splitCidr(net).address);

const selector = fc.constantFrom(
  'all()',
  'has(odd)',
  '!has(odd)',
  'odd == "1"',
  'odd != "1" && has(role)',
  'role in {"a", "b"}',
  '!all()',
);
const entity = fc.record(
  {
    nets: fc.array(network, { maxLength: 3 }),
    notNets: fc.array(network, { maxLength: 3 }),
    selector,
    notSelector: selector,
  },
  { requiredKeys: [], noNullPrototype: true },
);
const rule: fc.Arbitrary<PolicyRule> = fc.record(
  {
    action: fc.constantFrom('Allow', 'Deny', 'Pass', 'Log'),
    source: entity,
    destination: entity,
  },
  { requiredKeys: ['action'], noNullPrototype: true },
);

const names = ['a', 'b', 'c', 'd', 'e', 'f'];
const oddPool = fc
  .tuple(fc.constantFrom(...names), network, fc.boolean(), fc.boolean())
  .map(([name, cidr, natOutgoing, disabled]) => (draft: Draft) => {
    const made = pool(name, cidr, natOutgoing);
    draft.put('IPPool', name, { ...made, spec: { ...made.spec, disabled } });
  });
const oddReservation = fc
  .tuple(fc.constantFrom(...names), fc.array(network, { maxLength: 4 }))
  .map(([name, reservedCIDRs]) => (draft: Draft) => {
    draft.put('IPReservation', name, {
      kind: 'IPReservation',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name },
      spec: { reservedCIDRs },
    });
  });
const oddProfile = fc
  .tuple(fc.constantFrom('p1', 'p2', 'p3'), fc.array(rule, { maxLength: 4 }))
  .map(([name, rules]) => (draft: Draft) => {
    draft.put('Profile', name, profile(name, rules));
  });
const oddNetwork = fc
  .record({
    name: fc.constantFrom(...names),
    node: fc.constantFrom(here, 'there'),
    hop: fc.option(host, { nil: undefined }),
    hop6: fc.option(host, { nil: undefined }),
  })
  .map(({ name, node, hop, hop6 }) => (draft: Draft) => {
    draft.put('DockerNetwork', `${node}/${name}`, {
      id: name,
      node,
      ipam: 'calico',
      internal: false,
      ipv4: true,
      ipv6: true,
      subnets: [],
      options: {},
      ...(hop === undefined ? {} : { nextHop4: hop }),
      ...(hop6 === undefined ? {} : { nextHop6: hop6 }),
    });
  });
const oddEndpoint = fc
  .record({
    name: fc.constantFrom(...names),
    node: fc.constantFrom(here, here, 'there'),
    networks: fc.array(network, { maxLength: 3 }),
    profiles: fc.array(fc.constantFrom('p1', 'p2', 'p3', 'missing', '../odd'), { maxLength: 2 }),
    interfaceName: fc.constantFrom('lo', 'up0', 'cali00odd1', 'cali00odd2', 'cali.gone', '..'),
    labels: fc.record(
      { odd: fc.constantFrom('', '1'), role: fc.constantFrom('a', 'b') },
      { requiredKeys: [], noNullPrototype: true },
    ),
    annotations: fc.record(
      {
        [endpointAnnotations.network]: fc.constantFrom(...names),
        [endpointAnnotations.natOutgoing]: fc.constantFrom('true', 'false'),
        [endpointAnnotations.sandbox]: fc.constantFrom('/run/netns/none', '../x', ''),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
    hostPort: fc.option(fc.constantFrom(8080, 8081, 65_535), { nil: undefined }),
    hostIP: fc.constantFrom('0.0.0.0', '127.0.0.1', '::', '203.0.113.9'),
  })
  .map(({ annotations, hostPort, hostIP, ...facts }) => (draft: Draft) => {
    const made = endpoint(facts);
    const ports =
      hostPort === undefined ? [] : [{ name: 'odd', protocol: 'TCP', port: 80, hostPort, hostIP }];
    draft.put('WorkloadEndpoint', endpointId(facts.name), {
      ...made,
      metadata: { ...made.metadata, annotations },
      spec: { ...made.spec, ports },
    });
  });
const removal = fc
  .tuple(
    fc.constantFrom('IPPool', 'IPReservation', 'WorkloadEndpoint', 'Profile', 'DockerNetwork'),
    fc.constantFrom(...names, 'p1', 'p2', 'p3'),
    fc.constantFrom(here, 'there'),
  )
  .map(([kind, name, node]) => (draft: Draft) => {
    const id =
      kind === 'WorkloadEndpoint'
        ? endpointId(name)
        : kind === 'DockerNetwork'
          ? `${node}/${name}`
          : name;
    draft.remove(kind, id);
  });
const change = fc.oneof(
  oddPool,
  oddReservation,
  oddProfile,
  oddNetwork,
  oddEndpoint,
  oddEndpoint,
  oddEndpoint,
  removal,
);

function removeAll(draft: Draft): void {
  for (const name of names) {
    draft.remove('IPPool', name);
    draft.remove('IPReservation', name);
    draft.remove('WorkloadEndpoint', endpointId(name));
    for (const node of [here, 'there']) draft.remove('DockerNetwork', `${node}/${name}`);
  }
}

/** What of ours depends on objects: members, routes, and the host's own besides. */
function state(): string {
  return sh(`ipset save | grep '^add cali[46]0[^d]' | sort
    for f in -4 -6; do ip $f route show table all | grep -v ' dev cali\\|^local fe80' | sort; done
    ip -6 -o addr show | grep -o 'cali.*inet6 [^ ]*' | grep -v fe80::.*ff:fe || true`);
}

for (const backend of ['nft', 'legacy'] as const) {
  describe(`odd objects, iptables-${backend}`, { timeout: 900_000 }, () => {
    test('hold up no container and no change of policy, and leave nothing', async (context) => {
      const seed = Number(process.env['CALICO_TEST_SEED'] ?? Date.now() % 1_000_000);
      context.diagnostic(`CALICO_TEST_SEED=${seed}`);
      // Rules of the other variant would keep sets.
      sh('nft flush ruleset');
      sh(`ip link show up0 2>/dev/null || { ip link add up0 type veth peer name up1; ip link set up1 up
        ip link set up0 up; ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2
        ip -6 addr add 2001:db8::1/64 dev up0 nodad; for i in 1 2; do
          ip link add cali00odd$i type veth peer name odd$i; ip link set odd$i up; ip link set cali00odd$i up
        done; }`);
      await using lab = await KernelAgent.start(backend);
      await lab.write((draft) => draft.put('Profile', 'good', profile('good', [])));
      await lab.settled();
      const clean = state();
      const plans = fc.sample(fc.array(change, { minLength: perBatch, maxLength: perBatch }), {
        numRuns: batches,
        seed,
      });
      let slowest = 0;
      for (const [number, plan] of plans.entries()) {
        for (const one of plan) await lab.write(one);
        const facts = {
          name: `good${number}`,
          networks: [`10.65.${number >> 7}.${number & 127}/32`, `fd00:65::${number + 1}/128`],
          profiles: ['good'],
          interfaceName: `cali00good${number}`,
        };
        slowest = Math.max(slowest, await lab.join(facts));
        assert.match(
          sh(`ip route show dev ${facts.interfaceName}`),
          /^10\.65\./m,
          `batch ${number}`,
        );
        const source = { selector: `name == "n${number}"` };
        await lab.write((draft) =>
          draft.put('Profile', 'good', profile('good', [{ action: 'Allow', source }])),
        );
        await lab.settled();
        const set = /cali40s:\S+/.exec(sh(`iptables-${backend} -S cali-pri-good`))?.[0];
        assert.ok(set !== undefined, `batch ${number}: the new rule is there`);
        await lab.leave(facts);
      }
      context.diagnostic(`slowest Join: ${slowest.toFixed(0)} ms`);
      const failures = new Set(lab.agent.health.failures.map(({ why }) => why));
      context.diagnostic(`refused at the end: ${[...failures].join('; ')}`);
      await lab.write(removeAll);
      await lab.settled();
      const isClean = await eventually(() => state() === clean);
      if (!isClean) assert.equal(state(), clean);
      assert.deepEqual(lab.agent.health.failures, []);
      assert.equal(lab.agent.health.lastError, undefined);
    });
  });
}
