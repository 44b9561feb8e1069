import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** The file where Calico's own tools store it. */
const nodeNameFile = '/var/lib/calico/nodename';

/**
 * Returns the name of this host in the datastore: the given one, the one stored by Calico's own tools, or the host
 * name. Calls `warn` for a file without a name.
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
