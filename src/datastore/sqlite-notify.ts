import { watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Interval of polling the file if no notification arrives, in milliseconds. */
const pollMs = 1000;

/**
 * Reports commits of other processes to a SQLite file: immediately by inotify on its folder, at the latest by the
 * next poll. A poll takes microseconds and reads no file. Returns a function that stops it.
 */
export function watchSqliteFile(
  file: string,
  options: { readonly hasForeignCommit: () => boolean; readonly onForeignCommit: () => void },
): () => void {
  if (file === ':memory:') return () => undefined;
  const look = () => {
    if (hasForeignCommit(options)) options.onForeignCommit();
  };
  const own = basename(file);
  let looks: readonly NodeJS.Timeout[] = [];
  const watcher = watch(dirname(file), { persistent: false }, (_event, name) => {
    if (name?.startsWith(own) !== true) return;
    // inotify reports the first byte written; the commit is visible some milliseconds later.
    for (const timer of looks) clearTimeout(timer);
    looks = [0, 3, 10, 30, 100].map((delayMs) => setTimeout(look, delayMs).unref());
  });
  // Without inotify the poll still finds every change.
  watcher.on('error', () => watcher.close());
  const timer = setInterval(look, pollMs).unref();
  return () => {
    for (const waiting of looks) clearTimeout(waiting);
    clearInterval(timer);
    watcher.close();
  };
}

/** A file that cannot be polled is reported as changed: the reader then gets and reports the error. */
function hasForeignCommit(options: { readonly hasForeignCommit: () => boolean }): boolean {
  try {
    return options.hasForeignCommit();
  } catch {
    return true;
  }
}
