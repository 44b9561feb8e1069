import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ended, tracked } from './children.ts';

/** A name server of the tests. */
export type NameServer = AsyncDisposable;

/** Serves a table of names on port 53 of an address; `enter` leads into the network that has the address. */
export async function startNameServer(
  enter: readonly string[],
  address: string,
  names: Readonly<Record<string, string>>,
): Promise<NameServer> {
  const script = join(import.meta.dirname, 'name-server-process.ts');
  const [command = '', ...rest]: readonly string[] = [
    ...enter,
    process.execPath,
    script,
    address,
    JSON.stringify(names),
  ];
  const server = tracked(
    'name server',
    spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  await once(server.stdout, 'data', { signal: AbortSignal.timeout(120_000) });
  return {
    [Symbol.asyncDispose]: async () => {
      server.kill();
      await ended('name server', server);
    },
  };
}
