import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import { failsafesOf } from './failsafes.ts';

function configuration(spec: FelixConfiguration['spec']): FelixConfiguration {
  return {
    kind: 'FelixConfiguration',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'default' },
    spec,
  };
}

test('a list of failsafe ports replaces the default, that of the node first, and the Docker API belongs to the default', () => {
  const shown = (...of: Parameters<typeof failsafesOf>) =>
    failsafesOf(...of).inbound.map(({ protocol, port, net }) =>
      [protocol, port, ...(net === undefined ? [] : [net])].join('/'),
    );
  const byDefault = shown(undefined, undefined, [2376]);
  for (const port of ['6/22', '6/2377', '17/4789', '17/7946', '6/2381', '6/179', '6/2376']) {
    assert.ok(byDefault.includes(port), port);
  }
  const ofAll = configuration({ failsafeInboundHostPorts: [{ protocol: 'tcp', port: 2222 }] });
  assert.deepEqual(shown(undefined, ofAll, [2376]), ['6/2222']);
  const ofNode = configuration({
    failsafeInboundHostPorts: [
      { protocol: 'udp', port: 1, net: '192.0.2.1' },
      { protocol: 'sctp', port: 2, net: '10.0.0.0/8' },
      { protocol: 'other', port: 3 },
      { protocol: 'tcp', port: 4, net: 'nowhere' },
    ],
  });
  assert.deepEqual(shown(ofNode, ofAll, []), ['17/1/192.0.2.1/32', '132/2/10.0.0.0/8']);
  assert.deepEqual(shown(configuration({ failsafeInboundHostPorts: [] }), ofAll, []), []);
  assert.ok(failsafesOf(ofNode, ofAll, []).outbound.length > 3, 'the other list is the default');
});
