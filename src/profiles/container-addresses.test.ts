import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../ip/cidr.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { PolicyEngine } from './policy-engine.ts';

const ignored = () => undefined;
const output: PolicyOutput = {
  setPolicy: ignored,
  removePolicy: ignored,
  setStack: ignored,
  removeStack: ignored,
  addDispatch: ignored,
  removeDispatch: ignored,
  setHostGuards: ignored,
  addSet: ignored,
  removeSet: ignored,
  addMember: ignored,
  removeMember: ignored,
};

function endpointOf(id: string, address: string, sandbox: string): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: id,
      namespace: 'libnetwork',
      annotations: { [endpointAnnotations.sandbox]: sandbox },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: 'here',
      endpoint: id,
      ipNetworks: [parseCidr(`${address}/32`)],
      profiles: [],
      interfaceName: `cali${id}`,
    },
  };
}

test('of two endpoints with one interface, the first by name has it until that is removed', () => {
  const engine = new PolicyEngine({ node: 'here', families: [4], output });
  const [one, other] = ['a', 'b'].map((id) => {
    const endpoint = endpointOf(id, id === 'a' ? '10.65.0.1' : '10.65.0.2', `s-${id}`);
    return { ...endpoint, spec: { ...endpoint.spec, interfaceName: 'cali1' } };
  });
  assert.ok(one !== undefined && other !== undefined);
  const addresses = (of: WorkloadEndpoint) =>
    engine.dispatchesOf(of)?.map(({ address }) => address);
  engine.setEndpoint('b', other);
  assert.deepEqual(addresses(other), ['10.65.0.2/32']);
  engine.setEndpoint('a', one);
  assert.deepEqual([addresses(one), addresses(other)], [['10.65.0.1/32'], undefined]);
  engine.setEndpoint('a', undefined);
  assert.deepEqual([addresses(one), addresses(other)], [undefined, ['10.65.0.2/32']]);
});

test('each address of a container may be used on each of its interfaces, until it leaves a network', () => {
  const engine = new PolicyEngine({ node: 'here', families: [4], output });
  const addresses = (of: WorkloadEndpoint) =>
    engine.dispatchesOf(of)?.map(({ address, interface: name }) => `${address} ${name}`);
  const front = endpointOf('front', '10.65.0.1', 's1');
  const back = endpointOf('back', '10.65.0.2', 's1');
  engine.setEndpoint('front', front);
  engine.setEndpoint('other', endpointOf('other', '10.65.0.3', 's2'));
  assert.deepEqual(addresses(front), ['10.65.0.1/32 califront']);
  engine.setEndpoint('back', back);
  assert.deepEqual(addresses(front), ['10.65.0.1/32 califront', '10.65.0.2/32 califront']);
  assert.deepEqual(addresses(back), ['10.65.0.1/32 caliback', '10.65.0.2/32 caliback']);
  engine.setEndpoint('back', undefined);
  assert.deepEqual(addresses(front), ['10.65.0.1/32 califront']);
});
