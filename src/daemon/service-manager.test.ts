import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { NotifySocket } from './notify-socket.fixture.ts';
import { ServiceManager } from './service-manager.ts';

const libc = loadLibc();

/** The messages to the service manager at a name. */
function heard(name: string, tell: (manager: ServiceManager) => void): readonly string[] {
  using socket = new NotifySocket(name);
  const pid = String(process.pid);
  tell(
    new ServiceManager(libc, { NOTIFY_SOCKET: name, WATCHDOG_USEC: '30000000', WATCHDOG_PID: pid }),
  );
  return socket.heard();
}

test('the service manager is notified of start, watchdog ticks and stop', () => {
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

test('without a service manager nothing is sent, and a watchdog of another process is ignored', () => {
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
