import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonScanner } from './json-scanner.ts';

/** Reports whether the scanner passes the bytes as one value. */
function isPassed(bytes: Buffer): boolean {
  const scanner = new JsonScanner();
  // Bytes before and behind are none of its business.
  const within = Buffer.concat([Buffer.from('"{'), bytes, Buffer.from('"}')]);
  scanner.begin(within, 2, 2 + bytes.length);
  scanner.skip();
  scanner.finish();
  return !scanner.isUnusual;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Names of fields are read, not passed, so they are plain. */
const value = fc.jsonValue({ stringUnit: 'grapheme' }).map(withPlainNames);

function withPlainNames(of: unknown): unknown {
  if (typeof of !== 'object' || of === null) return of;
  if (Array.isArray(of)) return of.map(withPlainNames);
  return Object.fromEntries(
    Object.entries(of).map(([key, member]) => [
      key.replaceAll(/[^ !#-[\]-~]/gu, 'x'),
      withPlainNames(member),
    ]),
  );
}

test('any compact JSON is passed', () => {
  fc.assert(fc.property(value, (of) => assert.ok(isPassed(Buffer.from(JSON.stringify(of))))));
});

test('what is passed is JSON', () => {
  const tokens = '{ } [ ] , : " "a" \\ \\u12 0 - 1 . e E+1 true null fals 01 é'.split(' ');
  const part = fc.constantFrom(...tokens, ' ', '\n', '\u0001');
  let passed = 0;
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(part, { maxLength: 8 }).map((parts) => parts.join('')),
        fc.tuple(value, fc.nat(), part, fc.nat(3)).map(([of, at, inserted, removed]) => {
          const text = JSON.stringify(of);
          const place = at % (text.length + 1);
          return text.slice(0, place) + inserted + text.slice(place + removed);
        }),
      ),
      (text) => {
        if (!isPassed(Buffer.from(text))) return;
        passed++;
        assert.ok(isJson(Buffer.from(text).toString()), text);
      },
    ),
    { numRuns: 20_000 },
  );
  assert.ok(passed > 1000, `${passed} passed`);
});

test('the texts of an object are found', () => {
  const plain = fc.stringMatching(/^[ !#-[\]-~]*$/);
  const scanner = new JsonScanner();
  fc.assert(
    fc.property(fc.dictionary(plain, plain), (of) => {
      const bytes = Buffer.from(JSON.stringify(of));
      scanner.begin(bytes, 0, bytes.length);
      const found: [string, string][] = [];
      for (let more = scanner.enterObject(); more; more = scanner.nextField()) {
        const name = scanner.word();
        assert.ok(scanner.text());
        found.push([name, scanner.word()]);
      }
      scanner.finish();
      assert.ok(!scanner.isUnusual);
      assert.deepEqual(found, Object.entries(of));
    }),
  );
});

test('nothing is so deep that it cannot be refused', () => {
  assert.ok(isPassed(Buffer.from('[[[[{"a":[]}]]]]')));
  assert.ok(!isPassed(Buffer.from('['.repeat(1_000_000))));
});
