import type { Libc } from '../dataplane/netlink/libc.ts';

const unixFamily = 1;
const datagramCloseOnExec = 2 | 0o2000000;
const dontWaitNoSignal = 0x40 | 0x4000;
const longestPath = 107;

/**
 * Notifies systemd of the daemon's state (sd_notify(3): a datagram to the socket of NOTIFY_SOCKET). Node has no Unix
 * datagrams, so the C library sends it. Does nothing without NOTIFY_SOCKET.
 */
export class ServiceManager {
  readonly #libc: Libc;
  readonly #socket: string | undefined;
  /** Watchdog timeout in milliseconds; `undefined` if the watchdog is off (sd_watchdog_enabled(3)). */
  readonly watchdogMs: number | undefined;

  constructor(libc: Libc, environment: Readonly<Record<string, string | undefined>>) {
    this.#libc = libc;
    const socket = environment['NOTIFY_SOCKET'];
    this.#socket = socket === undefined || !/^[/@]./.test(socket) ? undefined : socket;
    const microseconds = Number(environment['WATCHDOG_USEC'] ?? 0);
    const pid = environment['WATCHDOG_PID'];
    const isForThisProcess = pid === undefined || pid === String(process.pid);
    this.watchdogMs =
      this.#socket !== undefined && isForThisProcess && microseconds > 0
        ? microseconds / 1000
        : undefined;
  }

  /** Docker can use the plugin. */
  ready(): void {
    this.#notify('READY=1');
  }

  alive(): void {
    if (this.watchdogMs !== undefined) this.#notify('WATCHDOG=1');
  }

  stopping(): void {
    this.#notify('STOPPING=1');
  }

  /** Never blocks: a manager that misses a message gets the next one, or its watchdog expires. */
  #notify(what: string): void {
    if (this.#socket === undefined) return;
    const fd = this.#libc.socket(unixFamily, datagramCloseOnExec, 0);
    if (fd < 0) return;
    try {
      const [data, address] = [Buffer.from(what), socketAddress(this.#socket)];
      this.#libc.sendto(fd, data, data.length, dontWaitNoSignal, address, address.length);
    } finally {
      this.#libc.close(fd);
    }
  }
}

/** A `sockaddr_un` (unix(7)): a path with its null, or after `@` an abstract name without one. */
function socketAddress(socket: string): Buffer {
  const isAbstract = socket.startsWith('@');
  const path = Buffer.from(isAbstract ? `\0${socket.slice(1)}` : `${socket}\0`);
  const address = Buffer.alloc(2 + Math.min(path.length, longestPath + 1));
  address.writeUInt16LE(unixFamily, 0);
  path.copy(address, 2);
  return address;
}
