import { execFileSync } from 'node:child_process';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';

/** A fresh network namespace into which this process moves; removed at the end. */
export interface OwnNamespace extends Disposable {
  readonly name: string;
}

const cloneNewNet = 0x40000000;

/**
 * Moves the main thread, and with it every process that it starts, into a new network namespace with `lo`
 * up. There is no way back: one test file, one process, one namespace.
 */
export function enterNewNamespace(): OwnNamespace {
  const name = `calico-test-${process.pid}`;
  execFileSync('ip', ['netns', 'add', name]);
  const libc = loadLibc();
  const fd = libc.open(`/run/netns/${name}`, 0);
  if (fd < 0 || libc.setns(fd, cloneNewNet) < 0) throw new Error(`cannot enter ${name}`);
  libc.close(fd);
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  return {
    name,
    [Symbol.dispose]: () => {
      execFileSync('ip', ['netns', 'del', name]);
    },
  };
}
