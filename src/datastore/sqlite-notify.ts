import { watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** How often the file is looked at where no notice of a change came, in milliseconds. */
const pollMs = 1000;

/**
 * Tells of commits that other processes made to a SQLite file: at once by a notice of its folder (inotify),
 * at the latest with the next look. A look costs microseconds and reads no file. Answers the way to stop.
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
    // The notice comes with the first byte that is written, the commit is visible some milliseconds later.
    for (const timer of looks) clearTimeout(timer);
    looks = [0, 3, 10, 30, 100].map((delayMs) => setTimeout(look, delayMs).unref());
  });
  // Without notices the polling still finds every change.
  watcher.on('error', () => watcher.close());
  const timer = setInterval(look, pollMs).unref();
  return () => {
    for (const waiting of looks) clearTimeout(waiting);
    clearInterval(timer);
    watcher.close();
  };
}

/** A file that cannot be looked at is told of as changed: who then reads it gets the error, and says so. */
function hasForeignCommit(options: { readonly hasForeignCommit: () => boolean }): boolean {
  try {
    return options.hasForeignCommit();
  } catch {
    return true;
  }
}
