import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pause } from '../../async/deadline.ts';
import { looseSupervisor } from '../../async/supervise.fixture.ts';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import { endpointAnnotations } from '../../model/kinds/workload-endpoint.ts';
import { LastAddresses } from '../docker/last-addresses.ts';
import { keepLastAddresses, readLastAddresses } from './keep-last-addresses.ts';

const address = parseAddress('10.65.0.5');
/** Not allocated by Docker, so Docker must not allocate it at the next start. */
const extra = parseAddress('10.65.0.200');
const asking = { family: 4, network: 'net1', container: 'app' } as const;
const signal = AbortSignal.timeout(600_000);

test('addresses of local endpoints are restored when the daemon starts, and a damaged file is reported', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'last-addresses-'));
  const file = join(folder, 'last-addresses.json');
  const warned: string[] = [];
  const read = () => readLastAddresses(file, (text) => warned.push(text));
  const stop = new AbortController();
  try {
    await using store = await openNodeStore('host-1');
    const { mirror, writer } = store;
    const last = new LastAddresses();
    const work = looseSupervisor().work('last addresses');
    const keeping = keepLastAddresses({ mirror, node: 'host-1', last, file, work }, stop.signal);
    for (const node of ['host-1', 'host-2']) {
      await writer.write((draft) => {
        draft.put('WorkloadEndpoint', `libnetwork/${node}`, {
          kind: 'WorkloadEndpoint',
          apiVersion: 'projectcalico.org/v3',
          metadata: {
            name: node,
            namespace: 'libnetwork',
            annotations: {
              [endpointAnnotations.network]: 'net1',
              [endpointAnnotations.extraAddresses]: extra,
            },
          },
          spec: {
            orchestrator: 'libnetwork',
            node,
            workload: node === 'host-1' ? 'app' : 'other',
            containerID: `of-${node}`,
            endpoint: 'e1',
            ipNetworks: [node === 'host-1' ? address : parseAddress('10.65.0.6'), extra].map(
              hostCidr,
            ),
            interfaceName: 'calie1',
          },
        });
      }, signal);
    }
    while (last.all().length === 0) await pause(10, signal);
    await writer.write((draft) => draft.remove('WorkloadEndpoint', 'libnetwork/host-1'), signal);
    stop.abort();
    await keeping;
    const unnamed = { family: 4, network: 'net1', container: undefined } as const;
    assert.equal(last.addressFor(unnamed), address, 'its container has stopped');
    const next = new LastAddresses();
    next.restore(await read());
    assert.deepEqual(
      next.all().map((one) => [one.address, one.network, one.containerId]),
      [[address, 'net1', 'of-host-1']],
    );
    assert.deepEqual(warned, []);
    const whole = await readFile(file, 'utf8');
    for (const damaged of ['', whole.slice(0, -9), '{"format":2}', whole.replace('10.65', 'x')]) {
      await writeFile(file, damaged);
      assert.deepEqual(await read(), []);
    }
    assert.equal(warned.length, 4);
    await rm(file);
    assert.deepEqual(await read(), []);
    assert.equal(warned.length, 4);
    next.restore([{ ...asking, address, containerId: 'c' }]);
    assert.equal(next.addressFor(asking), address);
  } finally {
    stop.abort();
    await rm(folder, { recursive: true, force: true });
  }
});
