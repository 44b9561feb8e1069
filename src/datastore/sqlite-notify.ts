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
    if (options.hasForeignCommit()) options.onForeignCommit();
  };
  const own = basename(file);
  const watcher = watch(dirname(file), { persistent: false }, (_event, name) => {
    if (name?.startsWith(own) === true) look();
  });
  // Without notices the polling still finds every change.
  watcher.on('error', () => watcher.close());
  const timer = setInterval(look, pollMs).unref();
  return () => {
    clearInterval(timer);
    watcher.close();
  };
}
