import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireNetworkRoot } from './network-root.ts';

const status = (capabilities: string) =>
  `Name:\tnode\nUid:\t0\t0\t0\t0\nCapEff:\t${capabilities}\n`;

test('a process that may change the network continues', () => {
  requireNetworkRoot(status('000001ffffffffff'));
  requireNetworkRoot(status('0000000000003000'));
});

test('a process that may not is rejected with the missing capabilities and the remedy', () => {
  for (const [capabilities, lacks] of [
    ['0000000000000000', 'CAP_NET_ADMIN and CAP_NET_RAW'],
    ['0000000000002000', 'CAP_NET_ADMIN'],
    ['0000000000001000', 'CAP_NET_RAW'],
  ] as const) {
    assert.throws(() => requireNetworkRoot(status(capabilities)), {
      message: `insufficient privileges to configure the host's network (missing ${lacks}); run as root`,
    });
  }
});
