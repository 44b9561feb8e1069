import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { ServiceManager } from './service-manager.ts';

const libc = loadLibc();

/** A manager's socket, as systemd opens it: a Unix datagram socket bound to an address. */
function heard(name: string, tell: (manager: ServiceManager) => void): readonly string[] {
  const fd = libc.socket(1, 2 | 0o4000, 0);
  const path = Buffer.from(name.startsWith('@') ? `\0${name.slice(1)}` : `${name}\0`);
  const address = Buffer.concat([Buffer.from([1, 0]), path]);
  assert.equal(libc.bind(fd, address, address.length), 0);
  const pid = String(process.pid);
  tell(
    new ServiceManager(libc, { NOTIFY_SOCKET: name, WATCHDOG_USEC: '30000000', WATCHDOG_PID: pid }),
  );
  const buffer = Buffer.alloc(256);
  const messages: string[] = [];
  for (;;) {
    const length = libc.recv(fd, buffer, buffer.length, 0x40);
    if (length < 0) break;
    messages.push(buffer.toString('utf8', 0, length));
  }
  libc.close(fd);
  return messages;
}

test('the manager hears of the start, of each sign of life, and of the end', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-notify-'));
  const tell = (manager: ServiceManager) => {
    assert.equal(manager.watchdogMs, 30_000);
    manager.ready();
    manager.alive();
    manager.stopping();
  };
  const all = ['READY=1', 'WATCHDOG=1', 'STOPPING=1'];
  try {
    assert.deepEqual(heard(join(folder, 'notify'), tell), all);
    assert.deepEqual(heard(`@calico-test-${process.pid}`, tell), all);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('without a manager nothing is told, and a watchdog of another process is not ours', () => {
  for (const environment of [
    {},
    { NOTIFY_SOCKET: '' },
    { NOTIFY_SOCKET: '/run/nobody/listens', WATCHDOG_USEC: '0' },
    { NOTIFY_SOCKET: '/run/nobody/listens', WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' },
    { WATCHDOG_USEC: '1000' },
  ]) {
    const manager = new ServiceManager(libc, environment);
    assert.equal(manager.watchdogMs, undefined);
    manager.ready();
    manager.alive();
  }
});
