import { readlinkSync, statSync } from 'node:fs';
import { processIds } from './processes.ts';

/**
 * Whether any process is in the network namespace that a path leads to. A namespace that only a mount keeps, as
 * Docker's after a crash, is in nobody's use. Of processes that end meanwhile, none is counted.
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
