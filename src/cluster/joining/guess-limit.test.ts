import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GuessLimit } from './guess-limit.ts';

describe('limit of wrong tokens', () => {
  test('after five failures within a minute a sender waits for the rest of it; others do not', () => {
    const limit = new GuessLimit();
    for (let attempt = 0; attempt < 5; attempt++) {
      assert.equal(limit.waitSeconds('192.0.2.1', attempt * 1000), 0);
      limit.failed('192.0.2.1', attempt * 1000);
    }
    assert.equal(limit.waitSeconds('192.0.2.1', 5000), 55);
    assert.equal(limit.waitSeconds('::ffff:192.0.2.1', 5000), 55, 'the same sender');
    assert.equal(limit.waitSeconds('192.0.2.2', 5000), 0);
    assert.equal(limit.waitSeconds('192.0.2.1', 60_000), 0);
    limit.failed('192.0.2.1', 60_000);
    assert.equal(limit.waitSeconds('192.0.2.1', 60_001), 0, 'the count begins again');
  });

  test('an IPv6 host cannot evade it by another address of its network', () => {
    const limit = new GuessLimit();
    for (let attempt = 0; attempt < 5; attempt++) limit.failed(`2001:db8::${attempt}`, 0);
    assert.equal(limit.waitSeconds('2001:db8::ffff', 0), 60);
    assert.equal(limit.waitSeconds('2001:db8:0:1::1', 0), 0);
  });

  test('a flood of senders is forgotten, not remembered for ever', () => {
    const limit = new GuessLimit();
    for (let attempt = 0; attempt < 5; attempt++) limit.failed('192.0.2.1', 0);
    for (let sender = 0; sender < 5000; sender++)
      limit.failed(`10.0.${sender >> 8}.${sender & 255}`, 0);
    assert.equal(limit.waitSeconds('192.0.2.1', 0), 0);
    assert.equal(limit.waitSeconds('10.0.19.1', 0), 0);
  });
});
