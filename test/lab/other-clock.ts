import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { cacheFolder } from './engine.ts';
import type { Machine } from './machine.ts';
import { outputOf, ownEnvironment } from './process.ts';

const inside = '/usr/lib/libfaketime.so.1';

/**
 * Returns the settings with which a program of a machine has another time than the rest of it, such as `+1d`, by Debian's
 * libfaketime. It changes what the C library tells: of Node, not of Go, so etcd keeps the machine's time.
 */
export async function otherClock(
  machine: Machine,
  offset: string,
): Promise<Readonly<Record<string, string>>> {
  const folder = `${cacheFolder()}/libfaketime`;
  const script = `
    [ ! -e "$0" ] || exit 0
    rm -rf "$0.part"; mkdir -p "$0.part"; cd "$0.part"
    apt-get download -q libfaketime && dpkg-deb -x libfaketime_*.deb . && mv "$0.part" "$0"`;
  mkdirSync(cacheFolder(), { recursive: true });
  await outputOf(['flock', `${folder}.lock`, 'sh', '-ec', script, folder], {
    timeoutMs: 120_000,
    env: ownEnvironment(),
  });
  const [library = ''] = (await outputOf(['find', folder, '-name', 'libfaketime.so.1'])).split(
    '\n',
  );
  if (!existsSync(machine.path(inside))) copyFileSync(library, machine.path(inside));
  return {
    LD_PRELOAD: inside,
    FAKETIME: offset,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };
}
