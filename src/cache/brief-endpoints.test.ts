import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
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

const decodeBy = (briefs: BriefEndpoints, text: string) =>
  briefs.decode({ key: '/key', value: text, modRevision: 1n });

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
      const brief = outcome(() => decodeBy(briefs, text));
      assert.deepEqual(brief, expected);
      if (typeof brief === 'string') return;
      readable++;
      // The text in a snapshot is decoded to the same brief.
      const saved = encodeBriefEndpoint('libnetwork/e1', brief);
      assert.deepEqual(decodeBy(briefs, saved), brief);
      assert.deepEqual(briefEndpoint(workloadEndpointType.decode('/key', saved)), brief);
    }),
    { numRuns: 3000 },
  );
  assert.ok(readable > 300, `${readable} of them could be read`);
});

/** An endpoint as calico-cnm writes it. */
function usual(ip: string, of: { readonly node: string; readonly role: string }) {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: 'e1',
      namespace: 'libnetwork',
      uid: 'u',
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { role: of.role },
      annotations: { 'docker.projectcalico.org/aliases': `${of.role},shop` },
    },
    spec: {
      orchestrator: 'libnetwork',
      workload: 'web-1',
      node: of.node,
      containerID: 'c'.repeat(64),
      endpoint: 'e1',
      ipNetworks: [ip],
      profiles: [of.role],
      interfaceName: 'cali0123_-.x',
      mac: 'ee:ee:ee:ee:ee:ee',
    },
  };
}

test('briefs of endpoints share equal parts, also among different endpoints', () => {
  const briefs = new BriefEndpoints();
  const decode = (ip: string, node: string, role: string) =>
    decodeBy(briefs, JSON.stringify(usual(ip, { node, role })));
  const one = decode('10.0.0.1', 'host-a', 'web');
  decode('10.0.0.2', 'host-b', 'db');
  const other = decode('10.0.0.3', 'host-a', 'web');
  assert.notDeepEqual(one.nets, other.nets);
  for (const part of ['scope', 'labels', 'profiles', 'ports', 'prefixes', 'aliases'] as const) {
    assert.equal(one[part], other[part], part);
  }
});

test('an endpoint of the usual form with any one field of another form is read as by the schema', () => {
  const briefs = new BriefEndpoints();
  const endpoint = usual('10.0.0.1/32', { node: 'host-a', role: 'web' });
  const others = [undefined, null, 3, '', 'x y', 'a,b', [], ['x'], [3], {}, { x: '-' }, { x: 3 }];
  const compare = (value: object) => {
    const text = JSON.stringify(value);
    const expected = outcome(() => briefEndpoint(workloadEndpointType.decode('/key', text)));
    const brief = outcome(() => decodeBy(briefs, text));
    assert.deepEqual(brief, expected, text);
  };
  for (const other of others) {
    for (const field of Object.keys(endpoint)) compare({ ...endpoint, [field]: other });
    for (const field of [...Object.keys(endpoint.metadata), 'resourceVersion']) {
      compare({ ...endpoint, metadata: { ...endpoint.metadata, [field]: other } });
    }
    for (const field of [...Object.keys(endpoint.spec), 'ports', 'allowSpoofedSourcePrefixes']) {
      compare({ ...endpoint, spec: { ...endpoint.spec, [field]: other } });
    }
  }
});

test('names are legal where the schema says so', () => {
  const briefs = new BriefEndpoints();
  const name = fc.oneof(
    fc.string({
      unit: fc.constantFrom('a', 'z', '0', '9', '-', '.', 'A', 'Z', '_', '@'),
      maxLength: 9,
    }),
    fc.constantFrom('a'.repeat(253), 'a'.repeat(254), 'abcdefghijklmno', 'abcdefghijklmnop'),
  );
  fc.assert(
    fc.property(
      name,
      fc.constantFrom('name', 'namespace', 'node', 'interfaceName'),
      (one, field) => {
        const { metadata, spec, ...rest } = usual('10.0.0.1', { node: 'host-a', role: 'web' });
        const text = JSON.stringify({
          ...rest,
          metadata: field.startsWith('name') ? { ...metadata, [field]: one } : metadata,
          spec: field.startsWith('name') ? spec : { ...spec, [field]: one },
        });
        const expected = outcome(() => briefEndpoint(workloadEndpointType.decode('/key', text)));
        assert.deepEqual(
          outcome(() => decodeBy(briefs, text)),
          expected,
          text,
        );
        // What is legal needs no schema.
        const bytes = Buffer.from(`x${text}x`);
        assert.equal(
          briefs.decodeUsual({ bytes, start: 1, end: bytes.length - 1 }) === undefined,
          expected === 'unreadable',
        );
      },
    ),
    { numRuns: 2000 },
  );
});

test('endpoints of the usual form, of which there may be hundreds of thousands, are decoded without the schema', () => {
  const schema = mock.method(workloadEndpointType, 'decode');
  try {
    const briefs = new BriefEndpoints();
    const endpoint = usual('10.0.0.1/32', { node: 'host-a', role: 'web' });
    const brief = decodeBy(briefs, JSON.stringify(endpoint));
    assert.deepEqual(brief.aliases, ['web', 'shop']);
    assert.deepEqual(decodeBy(briefs, encodeBriefEndpoint('libnetwork/e1', brief)), brief);
    const { labels: _, annotations: __, namespace: ___, ...metadata } = endpoint.metadata;
    const { ipNetworks, profiles, ...spec } = endpoint.spec;
    const twice = { ...spec, ipNetworks: [...ipNetworks, '10.0.0.1', 'fd00::1/128'] };
    const least = decodeBy(briefs, JSON.stringify({ ...endpoint, metadata, spec: twice }));
    assert.deepEqual(least.nets, ['10.0.0.1/32', 'fd00::1/128']);
    assert.deepEqual([least.labels, least.profiles, profiles], [{}, [], ['web']]);
    assert.equal(schema.mock.callCount(), 0);
    decodeBy(briefs, JSON.stringify({ ...endpoint, spec: { ...endpoint.spec, ports: [] } }));
    assert.equal(schema.mock.callCount(), 1, 'named ports are rare');
  } finally {
    schema.mock.restore();
  }
});

test('texts that are empty or not JSON objects are rejected', () => {
  const briefs = new BriefEndpoints();
  for (const text of ['', '{', 'null', '[]', '3']) {
    assert.equal(
      outcome(() => decodeBy(briefs, text)),
      'unreadable',
    );
  }
});

test('labels of a namespace or service account, which are inherited, are no labels of an endpoint itself', () => {
  const labels = { role: 'web', 'pcns.team': 'a', 'pcsa.role': 'b' };
  const endpoint = {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'e1', namespace: 'shop', labels },
    spec: { orchestrator: 'x', node: 'a', endpoint: 'e1', interfaceName: 'cali1' },
  };
  const brief = decodeBy(new BriefEndpoints(), JSON.stringify(endpoint));
  assert.deepEqual(brief.labels, { role: 'web' });
});

test('labels with a key or value that Calico forbids are rejected', () => {
  const briefs = new BriefEndpoints();
  const decode = (labels: Readonly<Record<string, string>>) =>
    outcome(() =>
      decodeBy(
        briefs,
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
