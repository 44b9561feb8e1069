import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { workloadEndpointType } from '../model/kinds/workload-endpoint.ts';
import { endpointIdIn } from './endpoint-keys.ts';

test('the ID in the bytes of a key is that in its text, wherever in a page it is', () => {
  const { prefix, idOf } = workloadEndpointType;
  const beginning = fc.oneof(
    { weight: 5, arbitrary: fc.constant(prefix) },
    fc.nat(prefix.length).map((length) => prefix.slice(0, length)),
    fc.constant(prefix.replace('workload', 'host')),
  );
  const rest = fc.oneof(
    fc.constantFrom('libnetwork/host--1-libnetwork-libnetwork-e', 'no-namespace', 'a/b/c', ''),
    fc.string({ unit: 'binary' }),
  );
  const before = fc.string({ maxLength: 5 });
  fc.assert(
    fc.property(beginning, rest, before, fc.nat(99), (first, second, filler, cut) => {
      // The key ends anywhere; what follows in the page may look like the rest of it.
      const text = first + second;
      const key = Buffer.from(text.slice(0, Math.max(text.length - cut, 0)));
      const bytes = Buffer.concat([Buffer.from(filler), key, Buffer.from(text.slice(-cut))]);
      const keyStart = Buffer.byteLength(filler);
      const id = endpointIdIn({ bytes, keyStart, keyEnd: keyStart + key.length });
      assert.equal(id, idOf(key.toString()));
    }),
  );
});
