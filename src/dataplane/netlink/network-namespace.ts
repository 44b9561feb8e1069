import { refused } from './errno.ts';
import type { Libc } from './libc.ts';

const cloneNewNet = 0x40000000;
const readOnly = 0;
const closeOnExec = 0o2000000;
/** A path of another kind, such as a pipe without writer, must not block the process. */
const nonBlocking = 0o4000;

/**
 * Calls a function with the thread inside another network namespace (such as Docker's SandboxKey) and switches it
 * back. The function must be synchronous; sockets that it opens stay in that namespace. Throws `kernel/refused`
 * (ENOENT, EINVAL) if the file is not a namespace.
 */
export function inNetworkNamespace<T>(libc: Libc, path: string, inside: () => T): T {
  const home = open(libc, '/proc/thread-self/ns/net');
  try {
    const there = open(libc, path);
    try {
      enter(libc, there, path);
      try {
        return inside();
      } finally {
        enter(libc, home, 'the original network namespace');
      }
    } finally {
      libc.close(there);
    }
  } finally {
    libc.close(home);
  }
}

function open(libc: Libc, path: string): number {
  const fd = libc.open(path, readOnly | closeOnExec | nonBlocking);
  if (fd < 0) throw refused(`open network namespace ${path}`, libc.errno());
  return fd;
}

function enter(libc: Libc, fd: number, name: string): void {
  if (libc.setns(fd, cloneNewNet) < 0) throw refused(`enter ${name}`, libc.errno());
}
