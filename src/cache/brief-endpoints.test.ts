import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { briefEndpoint } from '../model/briefs.ts';
import { workloadEndpointType } from '../model/kinds/workload-endpoint.ts';
import { BriefEndpoints, encodeBriefEndpoint } from './brief-endpoints.ts';

/** Values of the wrong type that Calico or another program may have written. */
const odd = fc.constantFrom<unknown>(
  null,
  0,
  1.5,
  true,
  '',
  'x y',
  [],
  {},
  ['a'],
  { a: 1 },
  { a: null },
  undefined,
);

/** Mostly one of the valid values. */
const mostly = <Value>(right: readonly Value[], wrong: readonly Value[]) =>
  fc.oneof(
    { weight: 40, arbitrary: fc.constantFrom(...right) },
    { weight: 1, arbitrary: fc.constantFrom(...wrong) },
  );

const oftenRight = <Value>(right: fc.Arbitrary<Value>) =>
  fc.oneof({ weight: 300, arbitrary: right }, { weight: 1, arbitrary: odd });

const network = fc.constantFrom(
  '10.1.2.3/32',
  'fd00::1/128',
  '10.1.2.0/24',
  '10.1.2.3',
  'FD00:0::2',
);
const wrongNetwork = fc.constantFrom('10.1.2.3/24', 'x', '010.1.2.3/32', 3, null);
const label = mostly<unknown>(['web', '', 'a.b-c'], ['-no', 'x'.repeat(64), 3, null]);

const metadata = fc.record(
  {
    name: oftenRight(mostly(['host-libnetwork-e1', 'e1'], ['a'.repeat(254), 'A'])),
    namespace: oftenRight(fc.constant('libnetwork')),
    uid: oftenRight(fc.constant('u')),
    creationTimestamp: oftenRight(fc.constant('2026-01-01T00:00:00Z')),
    resourceVersion: oftenRight(fc.constant('1')),
    labels: oftenRight(
      fc.dictionary(mostly(['role', 'a.b/c', 'x'], ['bad key', '__proto__', '']), label, {
        maxKeys: 3,
      }),
    ),
    annotations: oftenRight(
      fc.dictionary(
        fc.constantFrom('x', '__proto__', 'docker.projectcalico.org/aliases'),
        fc.oneof(fc.string(), fc.constantFrom('shop', 'shop,web')),
      ),
    ),
    other: odd,
  },
  { requiredKeys: ['name'] },
);

const spec = fc.record(
  {
    orchestrator: oftenRight(fc.constantFrom('libnetwork', 'k8s')),
    workload: oftenRight(fc.constant('web-1')),
    node: oftenRight(mostly(['host-a'], ['Host A'])),
    containerID: oftenRight(fc.constant('c'.repeat(64))),
    endpoint: oftenRight(fc.constantFrom('e1', '')),
    ipNetworks: oftenRight(
      fc.array(
        fc.oneof({ weight: 20, arbitrary: network }, { weight: 1, arbitrary: wrongNetwork }),
      ),
    ),
    profiles: oftenRight(fc.array(fc.constantFrom('web', 'db'))),
    interfaceName: oftenRight(mostly(['cali0123456789a'], ['a name'])),
    mac: oftenRight(fc.constant('ee:ee:ee:ee:ee:ee')),
    allowSpoofedSourcePrefixes: oftenRight(
      fc.array(
        fc.oneof({ weight: 20, arbitrary: network }, { weight: 1, arbitrary: wrongNetwork }),
        { maxLength: 3 },
      ),
    ),
    ports: oftenRight(
      fc.array(
        fc.record({
          name: fc.constant('http'),
          protocol: oftenRight(fc.constant('TCP')),
          port: fc.integer(),
        }),
      ),
    ),
    other: odd,
  },
  { requiredKeys: ['orchestrator', 'node', 'endpoint', 'interfaceName'] },
);

const stored = fc.record({
  kind: oftenRight(fc.constant('WorkloadEndpoint')),
  apiVersion: oftenRight(fc.constant('projectcalico.org/v3')),
  metadata: oftenRight(metadata),
  spec: oftenRight(spec),
});

const outcome = <Value>(decode: () => Value) => {
  try {
    return decode();
  } catch {
    return 'unreadable';
  }
};

test('for any stored endpoint, the quick decoder returns the same brief as the schema, or both reject it', () => {
  const briefs = new BriefEndpoints();
  let readable = 0;
  fc.assert(
    fc.property(stored, (value) => {
      const text = JSON.stringify(value);
      const expected = outcome(() => briefEndpoint(workloadEndpointType.decode('/key', text)));
      const brief = outcome(() => briefs.decode('/key', text));
      assert.deepEqual(brief, expected);
      if (typeof brief === 'string') return;
      readable++;
      // The text in a snapshot is decoded to the same brief.
      const saved = encodeBriefEndpoint('libnetwork/e1', brief);
      assert.deepEqual(briefs.decode('/key', saved), brief);
      assert.deepEqual(briefEndpoint(workloadEndpointType.decode('/key', saved)), brief);
    }),
    { numRuns: 3000 },
  );
  assert.ok(readable > 300, `${readable} of them could be read`);
});

test('briefs of endpoints share equal parts', () => {
  const briefs = new BriefEndpoints();
  const text = (ip: string) =>
    JSON.stringify({
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'e1', namespace: 'libnetwork', labels: { role: 'web' } },
      spec: {
        orchestrator: 'libnetwork',
        node: 'host-a',
        endpoint: 'e1',
        ipNetworks: [ip],
        profiles: ['web'],
        interfaceName: 'cali1',
      },
    });
  const [one, other] = ['10.0.0.1', '10.0.0.2'].map((ip) => briefs.decode('/key', text(ip)));
  assert.notDeepEqual(one?.nets, other?.nets);
  for (const part of ['scope', 'labels', 'profiles', 'ports'] as const) {
    assert.equal(one?.[part], other?.[part]);
  }
});

test('texts that are empty or not JSON objects are rejected', () => {
  const briefs = new BriefEndpoints();
  for (const text of ['', '{', 'null', '[]', '3']) {
    assert.equal(
      outcome(() => briefs.decode('/key', text)),
      'unreadable',
    );
  }
});

test('labels with a key or value that Calico forbids are rejected', () => {
  const briefs = new BriefEndpoints();
  const decode = (labels: Readonly<Record<string, string>>) =>
    outcome(() =>
      briefs.decode(
        '/key',
        JSON.stringify({
          kind: 'WorkloadEndpoint',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name: 'e1', namespace: 'libnetwork', labels },
          spec: { orchestrator: 'k8s', node: 'host-a', endpoint: 'e1', interfaceName: 'cali1' },
        }),
      ),
    );
  assert.notEqual(decode({ role: 'web', empty: '' }), 'unreadable');
  for (const labels of [{ role: '-no' }, { role: 'x'.repeat(64) }, { 'bad key': 'web' }])
    assert.equal(decode(labels), 'unreadable');
});
