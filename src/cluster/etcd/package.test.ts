import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canJoin, heldLock, remedyFor } from './package.ts';

/** Sentences of apt 2.6 (Debian 12) and 3.0 (Debian 13). */

test('the lock that apt waits for is named with its holder', () => {
  const held = (why: string) => heldLock(why);
  assert.equal(
    held(
      'Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 912 (unattended-upgr)',
    ),
    '/var/lib/dpkg/lock-frontend, held by process 912 (unattended-upgr)',
  );
  assert.equal(
    held(
      'Could not get lock /var/lib/apt/lists/lock - open (11: Resource temporarily unavailable)',
    ),
    '/var/lib/apt/lists/lock',
  );
  assert.equal(held('Unable to locate package etcd-server'), undefined);
});

test('the remedy fits the reason of apt', () => {
  const remedies = [
    ["You don't have enough free space in /var/cache/apt/archives/.", /^make room$/],
    ['no space left on device', /^make room$/],
    [
      'Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Could not connect',
      /^check network and proxy$/,
    ],
    ['Could not get lock /var/lib/dpkg/lock. It is held by process 1 (apt)', /^wait until/],
    [
      'Unable to locate package etcd-server',
      /^install it: systemctl mask etcd\.service && .*etcd-client$/,
    ],
  ] as const;
  for (const [why, remedy] of remedies) assert.match(remedyFor(why), remedy, why);
});

test('an etcd joins a cluster of its own minor version, or of an older one', () => {
  assert.ok(canJoin('3.5.16', '3.4.23') && canJoin('3.4.30', '3.4.23'));
  assert.ok(!canJoin('3.4.23', '3.5.0') && !canJoin('4.0.0', '3.5.0'));
});
