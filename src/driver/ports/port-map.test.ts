import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import { parsePortMap } from './port-map.ts';

const key = 'com.docker.network.portmap';

test('the port map as Docker sends it', () => {
  const entry = { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 };
  const common = { protocol: 'TCP', port: 80, hostIp: undefined };
  assert.deepEqual(parsePortMap({ [key]: [entry] }), [
    { ...common, firstHostPort: 8080, lastHostPort: 8080 },
  ]);
  const others = [
    { ...entry, HostPort: 0, HostPortEnd: 0 },
    { ...entry, HostPort: 7000, HostPortEnd: 7005 },
    { ...entry, Proto: 132, HostIP: '::1' },
  ];
  assert.deepEqual(parsePortMap({ [key]: others }), [
    { ...common, firstHostPort: 0, lastHostPort: 0 },
    { ...common, firstHostPort: 7000, lastHostPort: 7005 },
    { ...common, protocol: 'SCTP', hostIp: '::1', firstHostPort: 8080, lastHostPort: 8080 },
  ]);
});

test("a missing list, and Go's null, mean an empty one", () => {
  assert.deepEqual(parsePortMap({}), []);
  assert.deepEqual(parsePortMap({ [key]: null }), []);
});

test('an invalid port map is rejected', () => {
  const good = { Proto: 6, Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 };
  for (const bad of [
    'text',
    [{ ...good, Proto: 1 }],
    [{ ...good, Port: 70_000 }],
    [{ ...good, HostIP: 'here' }],
  ]) {
    assert.throws(
      () => parsePortMap({ [key]: bad }),
      (error) => isCalicoError(error, 'port/bad-map'),
    );
  }
});
