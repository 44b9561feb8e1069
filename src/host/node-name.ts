import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** Where Calico's own tools leave it. */
const nodeNameFile = '/var/lib/calico/nodename';

/**
 * The name of this host in the datastore: as given, as Calico's own tools left it, or the host name. `warn` is told of
 * a file that has no name.
 */
export function nodeName(
  given: string | undefined,
  warn: (text: string) => void = () => undefined,
): string {
  if (given !== undefined) return given;
  const own = hostname().toLowerCase();
  if (!existsSync(nodeNameFile)) return own;
  const left = readFileSync(nodeNameFile, 'utf8').trim();
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/.test(left)) return left;
  warn(`${nodeNameFile} contains no valid node name; using host name ${own}`);
  return own;
}
