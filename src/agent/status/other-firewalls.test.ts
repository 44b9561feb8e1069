import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherFirewalls } from './other-firewalls.ts';

/** Returns the checks of a host with these files and processes. */
function checksOf(files: Readonly<Record<string, string>>, processes: readonly string[] = []) {
  const host = { read: (file: string) => files[file], processes: () => processes };
  return otherFirewalls(host).map(({ name, ok, detail, remedy }) => ({ name, ok, detail, remedy }));
}

test('no check without ufw and firewalld, or with ufw disabled', () => {
  assert.deepEqual(checksOf({}, ['dockerd']), []);
  assert.deepEqual(checksOf({ '/etc/ufw/ufw.conf': 'LOGLEVEL=low\nENABLED=no\n' }), []);
  assert.deepEqual(
    checksOf({ '/etc/ufw/ufw.conf': '# set ENABLED=yes to start it\nENABLED=no' }),
    [],
  );
});

test('an active ufw is reported in every notation of its file', () => {
  for (const line of ['ENABLED=yes', 'ENABLED="yes"', "ENABLED='yes'", 'enabled=YES']) {
    const [check, ...more] = checksOf({ '/etc/ufw/ufw.conf': `LOGLEVEL=low\n${line}\n` });
    assert.deepEqual(more, [], line);
    assert.equal(check?.name, 'ufw');
    assert.equal(check?.ok, true);
    assert.match(check?.detail ?? '', /^ufw is active: its INPUT rules apply/);
  }
});

test('firewalld with zone calico in either location is ok; without the zone the check fails with a remedy', () => {
  for (const folder of ['/etc/firewalld', '/usr/lib/firewalld']) {
    const [check] = checksOf({ [`${folder}/zones/calico.xml`]: '' }, ['systemd', 'firewalld']);
    assert.deepEqual([check?.name, check?.ok, check?.remedy], ['firewalld', true, undefined]);
    assert.match(
      check?.detail ?? '',
      /zone calico applies to traffic from containers to this host/,
    );
  }
  const [without] = checksOf({}, ['firewalld']);
  assert.deepEqual([without?.name, without?.ok], ['firewalld', false]);
  assert.match(without?.detail ?? '', /has no zone calico; it rejects traffic from containers/);
  assert.match(without?.remedy ?? '', /plugin\/install again, .*firewall-cmd --reload/);
});
