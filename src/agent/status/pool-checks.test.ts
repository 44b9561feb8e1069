import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { ipipChecks } from './pool-checks.ts';

function pool(name: string, spec: Partial<IpPool['spec']>): IpPool {
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { cidr: parseCidr('10.65.0.0/16'), ...spec },
  };
}

test('an IP pool with IP-in-IP is reported with the mode', () => {
  const checks = ipipChecks([
    pool('plain', {}),
    pool('never', { ipipMode: 'Never', vxlanMode: '' }),
    pool('off', { ipipMode: 'Always', disabled: true }),
    pool('old', { ipipMode: 'Always', vxlanMode: 'Never' }),
    pool('racks', { vxlanMode: 'CrossSubnet' }),
  ]);
  assert.deepEqual(
    checks.map(({ name, ok, detail }) => [name, ok, detail.split(',')[0]]),
    [['IP pool old', false, 'ipipMode is Always']],
  );
});
