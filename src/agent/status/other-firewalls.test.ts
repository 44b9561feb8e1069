import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherFirewalls } from './other-firewalls.ts';

/** What status says of a host with these files and processes. */
function said(files: Readonly<Record<string, string>>, processes: readonly string[] = []) {
  const host = { read: (file: string) => files[file], processes: () => processes };
  return otherFirewalls(host).map(({ name, ok, detail, remedy }) => ({ name, ok, detail, remedy }));
}

test('a host without ufw and firewalld is told nothing, and neither is one whose ufw is off', () => {
  assert.deepEqual(said({}, ['dockerd']), []);
  assert.deepEqual(said({ '/etc/ufw/ufw.conf': 'LOGLEVEL=low\nENABLED=no\n' }), []);
  assert.deepEqual(said({ '/etc/ufw/ufw.conf': '# set ENABLED=yes to start it\nENABLED=no' }), []);
});

test('ufw that is on is named, whatever way its file is written', () => {
  for (const line of ['ENABLED=yes', 'ENABLED="yes"', "ENABLED='yes'", 'enabled=YES']) {
    const [check, ...more] = said({ '/etc/ufw/ufw.conf': `LOGLEVEL=low\n${line}\n` });
    assert.deepEqual(more, [], line);
    assert.equal(check?.name, 'ufw');
    assert.equal(check?.ok, true);
    assert.match(check?.detail ?? '', /^ufw is on: its rules decide on container to host/);
  }
});

test('firewalld is well with our zone, wherever it was installed; without it containers are cut off, and how to mend it is said', () => {
  for (const folder of ['/etc/firewalld', '/usr/lib/firewalld']) {
    const [check] = said({ [`${folder}/zones/calico.xml`]: '' }, ['systemd', 'firewalld']);
    assert.deepEqual([check?.name, check?.ok, check?.remedy], ['firewalld', true, undefined]);
    assert.match(check?.detail ?? '', /its zone calico decides on container to host/);
  }
  const [without] = said({}, ['firewalld']);
  assert.deepEqual([without?.name, without?.ok], ['firewalld', false]);
  assert.match(without?.detail ?? '', /has no zone calico: it rejects what containers send/);
  assert.match(without?.remedy ?? '', /plugin\/install again, .*firewall-cmd --reload/);
});
