import { readdirSync, readFileSync } from 'node:fs';

/** The processes of this host, as /proc shows them; `root` is the root directory of the host (proc(5)). */
export function processIds(root = '/'): readonly string[] {
  return readdirSync(`${root}proc`).filter((name) => /^\d+$/.test(name));
}

/** The first 15 bytes of a process's name; `undefined` if it has ended. */
export function processName(pid: string, root = '/'): string | undefined {
  try {
    return readFileSync(`${root}proc/${pid}/comm`, 'utf8').trimEnd();
  } catch {
    return undefined;
  }
}
