import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { replaceFileSync } from '../async/replace-file.ts';
import type { Settings } from '../config/settings.ts';
import { describe } from '../errors/error.ts';

/**
 * The name of this host in the datastore. It is chosen once and kept in a file, where Calico's own tools keep it too:
 * a host that is renamed stays the same node. Source: calico/node, node/pkg/lifecycle/startup (determineNodeName).
 */

type NameSettings = Pick<Settings, 'nodeName' | 'nodeNameFile'>;

/** A node name, and what the user must know about it. */
export interface ChosenName {
  readonly name: string;
  /** The name in the file, if it is another one: data of the host under that name is not used any more. */
  readonly former: string | undefined;
  readonly warnings: readonly string[];
}

/** Returns the name: `NODENAME`, else the name in the file, else the host name in lower case. */
export function chooseName(
  { nodeName: given, nodeNameFile: file }: NameSettings,
  host = hostname(),
): ChosenName {
  const stored = readName(file);
  const isValid = stored === undefined || /^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/.test(stored);
  const kept = isValid ? stored : undefined;
  const name = given ?? kept ?? host.toLowerCase();
  const former = kept === undefined || kept === name ? undefined : kept;
  return {
    name,
    former,
    warnings: [
      ...(isValid ? [] : [`${file} contains no valid node name; using ${name}`]),
      ...(former === undefined ? [] : [renamed(former, name)]),
    ],
  };
}

/** Returns the node name without writing it; for commands. */
export function nodeName(settings: NameSettings): string {
  return chooseName(settings).name;
}

/** Chooses the name and stores it for the next start. A file that cannot be written is a warning. */
export function keepName(settings: NameSettings): ChosenName {
  const chosen = chooseName(settings);
  const { nodeNameFile: file } = settings;
  if (readName(file) === chosen.name) return chosen;
  try {
    replaceFileSync(file, chosen.name);
    return chosen;
  } catch (error) {
    const warning = `cannot write the node name to ${file} (${describe(error)}); if the host is renamed it becomes another node`;
    return { ...chosen, warnings: [...chosen.warnings, warning] };
  }
}

/** Returns the sentence on a host whose `NODENAME` differs from the name that it had. */
export function renamed(former: string, name: string): string {
  return `this host was node ${former} and is now node ${name}, because NODENAME takes precedence: networks and containers that it has as ${former} no longer work; to keep the name, remove NODENAME and restart the daemon; to rename, recreate the networks and delete the former node: calico-cnm node delete ${former}`;
}

function readName(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}
