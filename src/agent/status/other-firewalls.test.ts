import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherFirewalls } from './other-firewalls.ts';

/** What status says of a host with these files and processes. */
function said(files: Readonly<Record<string, string>>, processes: readonly string[] = []) {
  const host = { read: (file: string) => files[file], processes: () => processes };
  return otherFirewalls(host).map(({ name, ok, detail, remedy }) => ({ name, ok, detail, remedy }));
}

test('a host without ufw and firewalld has no line, nor has one whose ufw is disabled', () => {
  assert.deepEqual(said({}, ['dockerd']), []);
  assert.deepEqual(said({ '/etc/ufw/ufw.conf': 'LOGLEVEL=low\nENABLED=no\n' }), []);
  assert.deepEqual(said({ '/etc/ufw/ufw.conf': '# set ENABLED=yes to start it\nENABLED=no' }), []);
});

test('an active ufw is named, however its file is written', () => {
  for (const line of ['ENABLED=yes', 'ENABLED="yes"', "ENABLED='yes'", 'enabled=YES']) {
    const [check, ...more] = said({ '/etc/ufw/ufw.conf': `LOGLEVEL=low\n${line}\n` });
    assert.deepEqual(more, [], line);
    assert.equal(check?.name, 'ufw');
    assert.equal(check?.ok, true);
    assert.match(check?.detail ?? '', /^ufw is active: its INPUT rules apply/);
  }
});

test('firewalld with zone calico is ok, wherever the zone is installed; without it containers are cut off, and a remedy is shown', () => {
  for (const folder of ['/etc/firewalld', '/usr/lib/firewalld']) {
    const [check] = said({ [`${folder}/zones/calico.xml`]: '' }, ['systemd', 'firewalld']);
    assert.deepEqual([check?.name, check?.ok, check?.remedy], ['firewalld', true, undefined]);
    assert.match(
      check?.detail ?? '',
      /zone calico applies to traffic from containers to this host/,
    );
  }
  const [without] = said({}, ['firewalld']);
  assert.deepEqual([without?.name, without?.ok], ['firewalld', false]);
  assert.match(without?.detail ?? '', /has no zone calico; it rejects traffic from containers/);
  assert.match(without?.remedy ?? '', /plugin\/install again, .*firewall-cmd --reload/);
});
