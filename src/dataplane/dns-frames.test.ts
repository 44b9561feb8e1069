import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DnsFrames, frame } from './dns-frames.ts';

test('messages arrive whole, however the connection cuts them', () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 50 })), (sent, cuts) => {
      let rest: Buffer = Buffer.concat(sent.map((one) => frame(Buffer.from(one))));
      const frames = new DnsFrames();
      const received: Buffer[] = [];
      for (const length of [...cuts, Infinity]) {
        received.push(...frames.push(rest.subarray(0, length)));
        rest = rest.subarray(length);
      }
      assert.deepEqual(
        received.map((one) => [...one]),
        sent.map((one) => [...one]),
      );
    }),
  );
});
