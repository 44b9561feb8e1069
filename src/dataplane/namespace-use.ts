import { readlinkSync, statSync } from 'node:fs';
import { processIds } from './processes.ts';

/**
 * Reports whether a process is in the network namespace at a path. A namespace that only a mount keeps, such as
 * Docker's after a crash, is not in use. Processes that exit meanwhile do not count.
 */
export function isNamespaceInUse(path: string): boolean {
  const inode = inodeOf(path);
  if (inode === undefined) return false;
  const link = `net:[${inode}]`;
  return processIds().some((pid) => namespaceLink(pid) === link);
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

function namespaceLink(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}
