import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseNet } from '../../ip/cidr.ts';
import { endpointName } from '../../model/kinds/workload-endpoint.ts';
import { labNamespace, withIpam, type Lab } from '../ipam-lab.fixture.ts';
import { checkIpam } from '../maintenance/report.ts';

const node = 'host-a';
const wanted = '10.65.0.3';
const id = (endpointId: string) => `${labNamespace}/${endpointName(node, endpointId)}`;

/** Creates a network with the endpoint `first`, whose address Docker has allocated. */
async function withNetwork(use: (lab: Lab, poolId: string, own: string) => Promise<void>) {
  await withIpam(async (lab) => {
    const pool = await lab.pool(node);
    await lab.adopt(node, 'net', [pool]);
    const poolId = String(pool['PoolID']);
    const own = await lab.address(node, poolId);
    await connect(lab, 'first', own);
    await use(lab, poolId, own);
  });
}

/** CreateEndpoint with an address allocated by Docker and optionally an extra address. */
async function connect(lab: Lab, endpointId: string, own: string, extra?: string): Promise<void> {
  await lab.connect(node, 'net', { endpointId, address: own });
  if (extra !== undefined) await claim(lab, endpointId, extra);
  await lab.plan((draft) => {
    const stored = draft.get('WorkloadEndpoint', id(endpointId));
    assert.ok(stored);
    const annotations =
      extra === undefined ? {} : { 'docker.projectcalico.org/extra-addresses': extra };
    draft.put('WorkloadEndpoint', id(endpointId), {
      ...stored,
      metadata: { ...stored.metadata, annotations },
      spec: {
        ...stored.spec,
        ipNetworks: [own, ...(extra === undefined ? [] : [extra])].map(parseNet),
      },
    });
  });
}

async function claim(lab: Lab, endpointId: string, address: string): Promise<void> {
  await lab.plan((draft) => {
    const network = draft.get('DockerNetwork', `${node}/net`);
    assert.ok(network);
    const addresses = [parseAddress(address)];
    lab.plans.claimExtra(draft, { node, network, endpointId, addresses });
  });
}

const holds = async (lab: Lab, endpointId: string) =>
  (await lab.holder(wanted))?.secondary?.['endpoint'] === endpointId;

test('an extra address has one holder, which may claim it again and releases it', () =>
  withNetwork(async (lab, poolId, own) => {
    await claim(lab, 'first', wanted);
    await claim(lab, 'first', wanted);
    await assert.rejects(claim(lab, 'second', wanted), { code: 'ipam/address-taken' });
    await assert.rejects(lab.address(node, poolId, wanted), { code: 'ipam/address-taken' });
    await assert.rejects(claim(lab, 'second', own), { code: 'ipam/address-taken' });
    await assert.rejects(claim(lab, 'second', '192.0.2.1'), { code: 'ipam/address-outside' });
    const addresses = [wanted, own].map(parseAddress);
    await lab.plan((draft) =>
      lab.plans.releaseExtra(draft, { node, endpointId: 'second', addresses }),
    );
    assert.ok(await holds(lab, 'first'));
    const given = { node, endpointId: 'first', addresses: [parseAddress(wanted)] };
    await lab.plan((draft) => lab.plans.releaseExtra(draft, given));
    assert.equal(await lab.holder(wanted), undefined);
  }));

test('an address of an endpoint that no longer exists can be claimed', () =>
  withNetwork(async (lab) => {
    await claim(lab, 'first', wanted);
    await lab.disconnect(node, 'first');
    await claim(lab, 'second', wanted);
    assert.ok(await holds(lab, 'second'));
  }));

test('so can that of an endpoint whose addresses a killed dockerd released; nothing of the endpoint is left', () =>
  withNetwork(async (lab, poolId) => {
    // Both are of one block, which the claim changes twice.
    const own = await lab.address(node, poolId, '10.65.0.4');
    await connect(lab, 'second', own, wanted);
    await assert.rejects(claim(lab, 'third', wanted), { code: 'ipam/address-taken' });
    await lab.release(node, poolId, own);
    const next = await lab.address(node, poolId);
    await connect(lab, 'third', next, wanted);
    assert.ok(await holds(lab, 'third'));
    assert.equal(await lab.holder(own), undefined);
    assert.equal(lab.mirror.get('WorkloadEndpoint', id('second')), undefined);
    assert.deepEqual(checkIpam(lab.mirror), []);
  }));

test('an endpoint keeps its extra address if another tool has released its Docker address', () =>
  withNetwork(async (lab, poolId) => {
    const own = await lab.address(node, poolId);
    await connect(lab, 'second', own, wanted);
    await lab.plan((draft) =>
      lab.plans.releaseExtra(draft, { node, endpointId: 'second', addresses: [parseAddress(own)] }),
    );
    await assert.rejects(claim(lab, 'third', wanted), { code: 'ipam/address-taken' });
  }));
