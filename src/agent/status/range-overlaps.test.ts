import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../ip/cidr.ts';
import { hostLocal } from '../../ipam/pools/pools.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { rangeOverlaps } from './range-overlaps.ts';

function pool(cidr: string, annotations: Readonly<Record<string, string>> = {}): IpPool {
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p', annotations: { ...annotations } },
    spec: { cidr: parseCidr(cidr) },
  };
}

const range = (cidr: string, what: string) => ({ cidr: parseCidr(cidr), what });
const bridge = range('10.65.3.0/24', 'the network of interface br-0123456789ab');
const defaults = range('172.17.0.0/16', "Docker's own address pools");

test('the check fails for a bridge network inside an IP pool; the proposed Docker setting avoids all pools', () => {
  const pools = [pool('10.65.0.0/16'), pool('172.20.0.0/16')];
  const [check, ...others] = rangeOverlaps(pools, { connected: [bridge], dockerPools: [defaults] });
  assert.equal(check?.ok, false);
  assert.match(check?.detail ?? '', /br-0123456789ab \(10\.65\.3\.0\/24\) overlaps IP pool p/);
  assert.match(check?.remedy ?? '', /"base": "192\.168\.0\.0\/16", "size": 24/);
  assert.deepEqual(others, []);
});

test('a range that Docker may use later is reported as ok', () => {
  const [check] = rangeOverlaps([pool('172.17.0.0/24')], {
    connected: [],
    dockerPools: [defaults],
  });
  assert.equal(check?.ok, true);
  assert.match(check?.detail ?? '', /default-address-pools/);
});

test('separate ranges, and a range that Docker chose for a Calico network, are not reported', () => {
  const host = { connected: [bridge], dockerPools: [defaults] };
  assert.deepEqual(rangeOverlaps([pool('10.66.0.0/16')], host), []);
  assert.deepEqual(rangeOverlaps([pool('172.17.0.0/16', { [hostLocal]: 'host-1' })], host), []);
});
